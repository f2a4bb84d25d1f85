"""Adapters to and from Hugging Face PEFT, with the logits that PEFT computes. See `hf.rs`, which calls this twice:

python hf.py make FOLDER     writes models, adapters of PEFT with random weights, and logits
python hf.py check FOLDER    loads adapters that ransnn wrote and compares with the logits beside them

Needs torch, transformers, peft and safetensors; tried with torch 2.15.0, transformers 5.23.0 and peft 0.21.2 on a CPU.
"""
import copy
import glob
import os
import sys

import torch
from peft import BOFTConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (AutoConfig, BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel,
                          LlamaConfig, LlamaForCausalLM)

torch.set_num_threads(1)
sizes = dict(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
MODELS = dict(
    llama=(LlamaForCausalLM, LlamaConfig(**sizes, num_key_value_heads=2), ["q_proj", "v_proj", "down_proj"]),
    gpt2=(GPT2LMHeadModel, GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=24), ["c_attn", "c_fc"]),
    bert=(BertForSequenceClassification, BertConfig(**sizes, num_labels=3, max_position_embeddings=24), ["query", "value"]),
)


def methods(name, targets):
    """Every method that PEFT has for a model, by name."""
    task = "SEQ_CLS" if name == "bert" else "CAUSAL_LM"
    common = dict(target_modules=targets, task_type=task)
    if name == "gpt2":
        common["fan_in_fan_out"] = True
    yield "lora", LoraConfig(r=4, lora_alpha=6, **common)
    yield "rslora", LoraConfig(r=4, lora_alpha=6, use_rslora=True, **common)
    yield "dora", LoraConfig(r=4, lora_alpha=6, use_dora=True, **common)
    # Conv1D, which GPT-2 is made of, is refused; on a CPU PEFT has one butterfly factor only.
    if name != "gpt2":
        yield "boft", BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=1, **common)


def inputs():
    return torch.randint(1, 60, (3, 11), generator=torch.Generator().manual_seed(7))


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=inputs()).logits.contiguous()


def make(folder):
    for seed, (name, (kind, config, targets)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        base = kind(config).eval()
        with torch.no_grad():
            for key, weight in base.named_parameters():
                if weight.dim() > 1:
                    weight.normal_(0, 0.2)
        here = os.path.join(folder, name)
        base.save_pretrained(os.path.join(here, "base"))
        save_file({"input_ids": inputs(), "logits": logits(base)}, os.path.join(here, "base.safetensors"))
        for method, settings in methods(name, targets):
            adapted = get_peft_model(copy.deepcopy(base), settings)
            with torch.no_grad():
                for weight in adapted.parameters():
                    if weight.requires_grad:
                        weight.add_(torch.randn_like(weight) * 0.1)
            out = os.path.join(here, "theirs", method)
            adapted.save_pretrained(out)
            # What is compared is what comes out of the file.
            again = PeftModel.from_pretrained(copy.deepcopy(base), out)
            save_file({"logits": logits(again)}, out + ".safetensors")


def check(folder):
    worst = 0.0
    found = sorted(glob.glob(os.path.join(folder, "*", "ours", "*.safetensors")))
    assert found, "nothing to compare"
    for path in found:
        adapter = path.removesuffix(".safetensors")
        here = os.path.dirname(os.path.dirname(path))
        kind, _, _ = MODELS[os.path.basename(here)]
        base = kind.from_pretrained(os.path.join(here, "base"), config=AutoConfig.from_pretrained(os.path.join(here, "base")))
        plain = logits(base)
        got, want = logits(PeftModel.from_pretrained(base, adapter)), load_file(path)["logits"]
        off = (got - want).abs().max().item()
        does = (got - plain).abs().max().item()
        print(f"{os.path.basename(here)}/{os.path.basename(adapter)}: {off:.1e}; the adapter changes logits by {does:.2f}")
        assert does > 1e-2, "the adapter does nothing"
        worst = max(worst, off)
    assert worst < 1e-4, worst


{"make": make, "check": check}[sys.argv[1]](sys.argv[2])

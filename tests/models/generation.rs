//! Generation and tokenizers.

use std::path::PathBuf;

use ransnn::models::{Generation, Model, Tokenizer};
use ransnn::tensor::DType;

use super::support::{large, read, rows, small};

#[test]
fn greedy_tokens_of_transformers() {
    for name in ["llama", "gpt2", "qwen2", "mistral"] {
        let Some(folder) = large(name) else { continue };
        let io = read(&folder.join("io.safetensors"));
        let model = Model::open(&folder.join("model"), DType::F32).expect("opens");
        let how = Generation { tokens: 16, ..Generation::default() };
        let got = model.generate(&rows(&io["gen.prompt"]), &how, &mut ()).expect("runs");
        let got: Vec<Vec<i64>> = got.iter().map(|row| row.iter().map(|&t| i64::from(t)).collect()).collect();
        assert_eq!(got, rows(&io["gen.tokens"]), "{name}");
    }
}

#[test]
fn seeds_stops_and_refusals() {
    let model = Model::open(&small().join("gpt2"), DType::F32).expect("opens");
    let draw = |seed| {
        let how = Generation { tokens: 8, temperature: 2.0, top_p: 0.95, seed, stop: vec![] };
        model.generate(&[vec![1, 2, 3], vec![3, 2, 1]], &how, &mut ()).expect("runs")
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let greedy = Generation { tokens: 8, ..Generation::default() };
    let free = model.generate(&[vec![1, 2, 3]], &greedy, &mut ()).expect("runs");
    assert_eq!(free[0].len(), 8);
    let stop = Generation { stop: vec![free[0][2]], ..greedy.clone() };
    let stopped = model.generate(&[vec![1, 2, 3]], &stop, &mut ()).expect("runs");
    assert!(stopped[0].len() <= 2 && free[0].starts_with(&stopped[0]));
    let long = Generation { tokens: 50, ..greedy.clone() };
    assert!(model.generate(&[vec![1, 2, 3]], &long, &mut ()).is_err(), "16 positions");
    assert!(model.generate(&[vec![1], vec![1, 2]], &greedy, &mut ()).is_err());
    let bert = Model::open(&small().join("bert"), DType::F32).expect("opens");
    assert!(bert.generate(&[vec![1]], &greedy, &mut ()).is_err());
    let nan = Model::open(&small().join("hostile/nan_weight"), DType::F32).expect("opens");
    assert!(nan.generate(&[vec![1]], &greedy, &mut ()).is_err());
}

#[test]
fn tokenizers_of_every_kind() {
    assert_eq!(Tokenizer::bytes().encode("né", true).expect("runs").ids, [110, 195, 169]);
    assert_eq!(Tokenizer::bytes().decode(&[110, 195, 169, 256]).expect("runs"), "né");
    let folder = tempfile::tempdir().expect("a folder");
    assert!(Tokenizer::open(folder.path()).is_err());
    std::fs::write(folder.path().join("tokenizer.json"), "{}").expect("written");
    assert!(Tokenizer::open(folder.path()).expect_err("refused").to_string().contains("not a tokenizer"));
    let words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\nworld\n##s\n,\n";
    let file = folder.path().join("vocab.txt");
    std::fs::write(&file, words).expect("written");
    let bert = Tokenizer::open(&file).expect("opens");
    let tokens = bert.encode_pair("Hello, worlds", Some("héllo"), true).expect("runs");
    assert_eq!(tokens.ids, [2, 4, 7, 5, 6, 3, 4, 3]);
    assert_eq!(tokens.types, [0, 0, 0, 0, 0, 0, 1, 1]);
    assert_eq!((bert.vocab(), bert.end()), (8, Some(3)));
    std::fs::write(&file, "a\nb\n").expect("written");
    assert!(Tokenizer::open(&file).is_err());

    let Some(data) = std::env::var_os("RANSNN_DATA").map(PathBuf::from) else {
        println!("skipped: real vocabularies need RANSNN_DATA");
        return;
    };
    let gpt2 = Tokenizer::open(&data.join("tokenizers/gpt2")).expect("opens");
    let ids = gpt2.encode("The dog's bone, 2024!", true).expect("runs").ids;
    assert_eq!(ids, [464, 3290, 338, 9970, 11, 48609, 0]);
    let narrow: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    assert_eq!(gpt2.decode(&narrow).expect("runs"), "The dog's bone, 2024!");
    let bert = Tokenizer::open(&data.join("tokenizers/bert-base-uncased")).expect("opens");
    assert_eq!(bert.encode("Hello world!", true).expect("runs").ids, [101, 7592, 2088, 999, 102]);
}

//! Ten Adam steps of a two-layer spiking network, unrolled over time on the tape, against snnTorch and PyTorch in f64:
//! loss, gradients and parameters after every step (fixture `train/adam_snn_leaky_count`).

use std::collections::BTreeMap;
use std::path::Path;

use ransnn::Result;
use ransnn::nn::{Adam, Optimizer, loss};
use ransnn::tensor::check::{Tolerance, assert_close};
use ransnn::tensor::{DType, Surrogate, Tensor, grad, safetensors};

const STEPS: usize = 20;
const NAMES: [&str; 4] = ["b1", "b2", "w1", "w2"];

/// snnTorch's Leaky: the reset (by subtraction, detached) follows from the last membrane, a spike from `mem > 1`.
fn leaky(current: &Tensor, membrane: Option<Tensor>) -> Result<(Tensor, Tensor)> {
    let surrogate = Surrogate::FastSigmoid { slope: 25.0 };
    let fires = |membrane: &Tensor| membrane.add_scalar(-1.0)?.spike_above(surrogate);
    let membrane = match membrane {
        None => current.clone(),
        Some(last) => last.mul_scalar(0.9)?.add(current)?.sub(&fires(&last)?.detach()?)?,
    };
    Ok((fires(&membrane)?, membrane))
}

fn counts(params: &BTreeMap<String, Tensor>, x: &[Tensor]) -> Result<Tensor> {
    let (mut hidden, mut output, mut total) = (None, None, None::<Tensor>);
    for x in x {
        let (spikes, membrane) = leaky(&x.matmul_nt(&params["w1"])?.add(&params["b1"])?, hidden)?;
        hidden = Some(membrane);
        let (spikes, membrane) = leaky(&spikes.matmul_nt(&params["w2"])?.add(&params["b2"])?, output)?;
        output = Some(membrane);
        total = Some(match total {
            None => spikes,
            Some(total) => total.add(&spikes)?,
        });
    }
    Ok(total.expect("there are steps"))
}

/// Entry `at` along the first axis.
fn entry(tensor: &Tensor, at: usize) -> Result<Tensor> {
    tensor.narrow(0, at, 1)?.reshape(&tensor.shape()[1..])
}

#[test]
fn trajectory_of_snntorch() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/snn/train/adam_snn_leaky_count.safetensors");
    let file = safetensors::File::open(&path)?;
    let x = file.tensor("x")?.to_dtype(DType::F64)?;
    let x = (0..STEPS).map(|t| entry(&x, t)).collect::<Result<Vec<_>>>()?;
    let labels = file.tensor("y")?.to_dtype(DType::U32)?;
    let losses = file.tensor("loss")?;

    let mut params = BTreeMap::new();
    for name in NAMES {
        params.insert(name.to_string(), entry(&file.tensor(&format!("param.{name}"))?, 0)?);
    }
    let mut adam = Adam::new(0.005);
    for step in 0..10 {
        let (value, grads) = grad(&params, || {
            let counts = counts(&params, &x)?;
            assert!(counts.sum_all()?.to_scalar()? > 0.0, "the output fires");
            loss::cross_entropy(&counts, &labels)
        })?;
        assert_close(&value, &entry(&losses, step)?, Tolerance::new(0.0, 1e-10));
        for name in NAMES {
            let want = entry(&file.tensor(&format!("grad.{name}"))?, step)?;
            assert_close(grads.get(name)?, &want, Tolerance::new(1e-9, 1e-9));
        }
        adam.step(&mut params, &grads)?;
        for name in NAMES {
            let want = entry(&file.tensor(&format!("param.{name}"))?, step + 1)?;
            assert_close(&params[name], &want, Tolerance::new(1e-9, 0.0));
        }
    }
    Ok(())
}

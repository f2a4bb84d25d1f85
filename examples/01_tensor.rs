//! Tensors, gradients and an optimiser: fits a line to points.
//!
//! `cargo run --example 01_tensor` prints a slope near 2 and an offset near −1.
#![allow(clippy::print_stdout)]

use ransnn::Result;
use ransnn::nn::{Adam, Linear, Optimizer, Schedule, loss};
use ransnn::rng::Stream;
use ransnn::tensor::{DType, Tensor, grad};

fn main() -> Result<()> {
    // Points on y = 2 x − 1.
    let x = Tensor::from_f32((0..32).map(|i| i as f32 / 16.0 - 1.0).collect(), &[32, 1])?;
    let y = x.affine(2.0, -1.0)?;

    // A layer is a plain struct; its random weights depend on the seed and the name only.
    let mut line = Linear::new(1, 1, true, &Stream::named(0, "line"), DType::F32)?;
    let mut adam = Adam::new(0.1);
    let schedule = Schedule::Cosine { warmup: 0, total: 200, floor: 0.0 };

    for step in 0..200 {
        // Only what runs inside of `grad` is recorded.
        let (error, grads) = grad(&line, || loss::mean_squared_error(&line.forward(&x)?, &y))?;
        adam.set_learning_rate(0.1 * schedule.factor(step));
        adam.step(&mut line, &grads)?;
        if step % 50 == 0 {
            println!("step {step:3}: error {:.4}", error.to_scalar()?);
        }
    }
    let offset = line.bias.as_ref().map_or(Ok(0.0), Tensor::to_scalar)?;
    println!("y = {:.3} x + {offset:.3}", line.weight.to_scalar()?);
    Ok(())
}

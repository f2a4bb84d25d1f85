//! One leaky integrate-and-fire neuron under a constant current: its membrane potential and its spikes.

use ransnn::snn::Neuron;
use ransnn::snn::neurons::Lif;

fn main() {
    let lif = Lif::default();
    let (mut membrane, mut spikes) = ([0.0f32], [0u8]);
    let mut count = 0;
    println!("step  membrane");
    for step in 0..25 {
        lif.step(&[0.2], &mut [&mut membrane], &mut spikes);
        let bar = "#".repeat((membrane[0] * 40.0) as usize);
        println!("{step:>4}  {:.3} {bar}{}", membrane[0], if spikes[0] == 1 { " spike" } else { "" });
        count += u32::from(spikes[0]);
    }
    println!("{count} spikes in 25 steps; the first after ln(1 - 1 / 4) / ln 0.95 = 5.6 steps");
}

//! The trained model of a seed as a safetensors file. Frozen weights are not in it: they are drawn from the seed.

use super::run_dir::RunDir;
use crate::error::{Error, Result};
use crate::learn::ransnn::Reservoir;
use crate::snn::Network;
use safetensors::tensor::{Dtype, TensorView};

/// Writes `model-<seed>.safetensors`: the readout, the gains that calibration found, and the tables of codes.
///
/// # Errors
/// Unwritable, disk full.
pub fn write(
    run: &RunDir,
    seed: u64,
    net: &Network,
    reservoir: &Reservoir<'_>,
    readout: &(Vec<f32>, Vec<f32>),
) -> Result<()> {
    let (weights, bias) = readout;
    let mut tensors: Vec<(String, Dtype, Vec<usize>, &[u8])> = vec![
        (
            "readout.weight".into(),
            Dtype::F32,
            vec![bias.len(), weights.len() / bias.len().max(1)],
            bytemuck::cast_slice(weights),
        ),
        ("readout.bias".into(), Dtype::F32, vec![bias.len()], bytemuck::cast_slice(bias)),
    ];
    for projection in &net.projections {
        let gain = &projection.gain;
        tensors.push((
            format!("projection.{}.gain", projection.name),
            Dtype::F32,
            vec![gain.len()],
            bytemuck::cast_slice(gain),
        ));
    }
    for (i, table) in reservoir.code_tables().iter().enumerate() {
        tensors.push((format!("features.{i}.codes"), Dtype::U8, vec![table.len()], table));
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view =
            TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| Error::Internal(e.to_string()))?;
        Ok((name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    let about =
        serde_json::json!({ "kind": "ransnn-readout", "version": env!("CARGO_PKG_VERSION"), "seed": seed });
    // One entry only: the library writes a hash map, in another order each time.
    #[expect(
        clippy::disallowed_types,
        reason = "safetensors takes no other map, and one entry has one order"
    )]
    let metadata = std::collections::HashMap::from([("ransnn".to_string(), about.to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::Internal(e.to_string()))?;
    run.write(&format!("model-{seed}.safetensors"), &bytes)
}

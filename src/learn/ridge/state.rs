//! Normal equations as a safetensors file, to continue an interrupted pass over the data.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::gram::{IntegerGram, RealGram};
use super::sums::{Kept, Sums};
use super::tiles::{TILE, Tiles};
use super::{AnySums, Feature, Form, NormalEquations, check_sizes};
use crate::error::{Error, Result};
use crate::files::Whole;

/// What the file's header says besides shapes.
#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    schema: u32,
    kind: String,
    features: usize,
    outputs: usize,
    code_max: u8,
    samples: u64,
    samples_in_32_bits: u64,
    keep: usize,
    seed: u64,
    standardize: bool,
    intercept: bool,
    tolerance: f64,
}

const SCHEMA: u32 = 1;
const KEY: &str = "ransnn.ridge";

/// Named arrays, in the order of writing.
type Arrays<'a> = Vec<(&'static str, Dtype, Vec<&'a [u8]>)>;

impl NormalEquations {
    /// Writes the state; a file of that name is replaced only when the new one is complete.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (kind, code_max, narrow) = match &self.sums {
            AnySums::U8(sums) => ("u8", sums.gram.code_max, sums.gram.samples),
            AnySums::F32(_) => ("f32", 0, 0),
            AnySums::F64(_) => ("f64", 0, 0),
        };
        let (arrays, samples, keep, seed, places) = match &self.sums {
            AnySums::U8(sums) => {
                let mut arrays = common(sums, Dtype::U8);
                arrays.push(("gram", Dtype::U32, tiles(&sums.gram.sums)));
                if let Some(moved) = &sums.gram.moved {
                    arrays.push(("gram_moved", Dtype::U64, tiles(moved)));
                }
                (arrays, sums.samples, sums.kept.limit, sums.kept.seed, &sums.kept.places)
            }
            AnySums::F32(sums) => {
                let mut arrays = common(sums, Dtype::F32);
                arrays.push(("gram", Dtype::F64, tiles(&sums.gram.sums)));
                (arrays, sums.samples, sums.kept.limit, sums.kept.seed, &sums.kept.places)
            }
            AnySums::F64(sums) => {
                let mut arrays = common(sums, Dtype::F64);
                arrays.push(("gram", Dtype::F64, tiles(&sums.gram.sums)));
                (arrays, sums.samples, sums.kept.limit, sums.kept.seed, &sums.kept.places)
            }
        };
        let places: Vec<u64> = places.iter().flat_map(|(&draw, &place)| [draw, place as u64]).collect();
        let mut arrays = arrays;
        arrays.push(("kept_places", Dtype::U64, vec![bytemuck::cast_slice(&places)]));
        let header = Header {
            schema: SCHEMA,
            kind: kind.into(),
            features: self.features,
            outputs: self.outputs,
            code_max,
            samples,
            samples_in_32_bits: narrow,
            keep,
            seed,
            standardize: self.form.standardize,
            intercept: self.form.intercept,
            tolerance: self.form.tolerance,
        };
        let header = serde_json::to_string(&header).map_err(|e| Error::Internal(e.to_string()))?;
        write(path, &arrays, header)
    }

    /// Reads a state written by [`NormalEquations::save`]; continuing from it equals never having stopped.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or was written by a newer version.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        parse(&bytes).map_err(|e| match e {
            Error::Data { what, .. } => Error::data(path, what),
            Error::Value { .. } => Error::data(path, e.to_string()),
            other => other,
        })
    }
}

fn tiles<T: bytemuck::Pod>(tiles: &Tiles<T>) -> Vec<&[u8]> {
    tiles.all().iter().map(|tile| bytemuck::cast_slice(tile)).collect()
}

fn common<T: Feature>(sums: &Sums<T>, dtype: Dtype) -> Arrays<'_> {
    vec![
        ("cross", Dtype::F64, vec![bytemuck::cast_slice(&sums.cross)]),
        ("target_sums", Dtype::F64, vec![bytemuck::cast_slice(&sums.target_sums)]),
        ("target_squares", Dtype::F64, vec![bytemuck::cast_slice(&sums.target_squares)]),
        ("pending", dtype, vec![bytemuck::cast_slice(&sums.pending)]),
        ("pending_targets", Dtype::F64, vec![bytemuck::cast_slice(&sums.pending_targets)]),
        ("kept", dtype, vec![bytemuck::cast_slice(&sums.kept.rows)]),
        ("kept_targets", Dtype::F64, vec![bytemuck::cast_slice(&sums.kept.targets)]),
    ]
}

/// Writes tile by tile: the whole state a second time in memory would double the peak.
fn write(path: &Path, arrays: &Arrays<'_>, header: String) -> Result<()> {
    // Eight-byte numbers first, so that all of them are aligned in the file.
    let mut arrays: Vec<_> = arrays.iter().collect();
    arrays.sort_by_key(|(name, dtype, _)| (std::cmp::Reverse(dtype.bitsize()), *name));
    let mut fields = serde_json::Map::new();
    fields.insert("__metadata__".into(), serde_json::json!({ KEY: header }));
    let mut offset = 0;
    for (name, dtype, parts) in &arrays {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        fields.insert(
            (*name).into(),
            serde_json::json!({
                "dtype": dtype, "shape": [bytes * 8 / dtype.bitsize()], "data_offsets": [offset, offset + bytes],
            }),
        );
        offset += bytes;
    }
    let mut head = serde_json::Value::Object(fields).to_string().into_bytes();
    head.resize(head.len().next_multiple_of(8), b' ');
    let mut file = Whole::create(path)?;
    let io = || Error::io("write", path);
    file.write_all(&(head.len() as u64).to_le_bytes()).map_err(io())?;
    file.write_all(&head).map_err(io())?;
    for part in arrays.iter().flat_map(|(_, _, parts)| parts) {
        file.write_all(part).map_err(io())?;
    }
    file.finish()
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::data("", format!("not a saved state of a ridge regression: {what}"))
}

fn parse(bytes: &[u8]) -> Result<NormalEquations> {
    let file = SafeTensors::deserialize(bytes).map_err(bad)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(bad)?;
    let header =
        metadata.metadata().as_ref().and_then(|entries| entries.get(KEY)).ok_or_else(|| bad("no header"))?;
    let header: Header = serde_json::from_str(header).map_err(bad)?;
    if header.schema != SCHEMA {
        return Err(bad(format!("schema {} where {SCHEMA} is known", header.schema)));
    }
    check_sizes(header.features, header.outputs)?;
    let form =
        Form { standardize: header.standardize, intercept: header.intercept, tolerance: header.tolerance };
    let sums = match header.kind.as_str() {
        "u8" => {
            if header.code_max == 0 {
                return Err(bad("code_max 0"));
            }
            let mut gram = IntegerGram::new(header.features, header.code_max)?;
            gram.samples = header.samples_in_32_bits;
            fill(&file, "gram", Dtype::U32, &mut gram.sums)?;
            if file.tensor("gram_moved").is_ok() {
                let mut moved = Tiles::zeros(header.features)?;
                fill(&file, "gram_moved", Dtype::U64, &mut moved)?;
                gram.moved = Some(moved);
            }
            let sums = read(&file, &header, gram, Dtype::U8)?;
            if sums.pending.iter().chain(&sums.kept.rows).any(|&code| code > header.code_max) {
                return Err(bad("a code above code_max"));
            }
            AnySums::U8(sums)
        }
        kind @ ("f32" | "f64") => {
            let mut gram = RealGram::new(header.features)?;
            fill(&file, "gram", Dtype::F64, &mut gram.sums)?;
            match kind {
                "f32" => AnySums::F32(read(&file, &header, gram, Dtype::F32)?),
                _ => AnySums::F64(read(&file, &header, gram, Dtype::F64)?),
            }
        }
        other => return Err(bad(format!("features of type {other}"))),
    };
    Ok(NormalEquations { features: header.features, outputs: header.outputs, form, sums })
}

fn array<T: bytemuck::Pod>(file: &SafeTensors<'_>, name: &str, dtype: Dtype) -> Result<Vec<T>> {
    let view: TensorView<'_> = file.tensor(name).map_err(bad)?;
    if view.dtype() != dtype {
        return Err(bad(format!("`{name}` has type {:?} where {dtype:?} is needed", view.dtype())));
    }
    Ok(bytemuck::pod_collect_to_vec(view.data()))
}

fn fill<T: bytemuck::Pod>(
    file: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    tiles: &mut Tiles<T>,
) -> Result<()> {
    let view = file.tensor(name).map_err(bad)?;
    let size = TILE * TILE * size_of::<T>();
    if view.dtype() != dtype || view.data().len() != tiles.all().len() * size {
        return Err(bad(format!("`{name}` has another type or size")));
    }
    for (tile, bytes) in tiles.all_mut().iter_mut().zip(view.data().chunks(size)) {
        bytemuck::cast_slice_mut(tile).copy_from_slice(bytes);
    }
    Ok(())
}

fn read<T: Feature>(file: &SafeTensors<'_>, header: &Header, gram: T::Gram, dtype: Dtype) -> Result<Sums<T>> {
    let (features, outputs) = (header.features, header.outputs);
    let empty = Sums::<T>::new(gram, features, outputs);
    let places: Vec<u64> = array(file, "kept_places", Dtype::U64)?;
    let kept = Kept {
        limit: header.keep,
        seed: header.seed,
        places: places.chunks_exact(2).map(|pair| (pair[0], pair[1] as usize)).collect::<BTreeMap<_, _>>(),
        rows: array(file, "kept", dtype)?,
        targets: array(file, "kept_targets", Dtype::F64)?,
    };
    let sums = Sums {
        samples: header.samples,
        cross: array(file, "cross", Dtype::F64)?,
        target_sums: array(file, "target_sums", Dtype::F64)?,
        target_squares: array(file, "target_squares", Dtype::F64)?,
        pending: array(file, "pending", dtype)?,
        pending_targets: array(file, "pending_targets", Dtype::F64)?,
        kept,
        ..empty
    };
    let pending = sums.pending.len() / features;
    let rows = sums.kept.places.len();
    let fits = sums.cross.len() == features.div_ceil(TILE) * (outputs + 1) * TILE
        && sums.target_sums.len() == outputs
        && sums.target_squares.len() == outputs
        && sums.pending.len() == pending * features
        && pending < <T::Gram as super::gram::Gram<T>>::BLOCK
        && sums.pending_targets.len() == pending * outputs
        && rows <= header.keep
        && sums.kept.rows.len() == rows * features
        && sums.kept.targets.len() == rows * outputs
        && sums.kept.places.values().all(|&place| place < rows);
    if fits { Ok(sums) } else { Err(bad("arrays of sizes that do not fit together")) }
}

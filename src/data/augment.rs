//! Images moved, turned and bent a little, differently in each pass, the same on any number of threads.
//!
//! Every number comes from the stream `augment` under (pass, sample), so that what a sample becomes depends neither on
//! batches nor on what else is drawn.

use rand::RngExt;

use crate::error::{Error, Result};
use crate::rng::Stream;

/// How far images are changed.
///
/// ```
/// use ransnn::data::Augment;
/// let augment = Augment { shift: 2.0, rotation_degrees: 10.0, elastic: 1.0, seed: 1 };
/// let image = vec![0.5; 28 * 28];
/// let (mut first, mut again, mut other) = (image.clone(), image.clone(), image.clone());
/// augment.apply([1, 28, 28], 0, 7, &mut first)?;
/// augment.apply([1, 28, 28], 0, 7, &mut again)?;
/// augment.apply([1, 28, 28], 1, 7, &mut other)?;
/// assert!(first == again && first != other && first != image);
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Most pixels that an image moves along each axis; uniform on both sides of 0.
    pub shift: f32,
    /// Most degrees that it turns around its middle; uniform on both sides of 0.
    pub rotation_degrees: f32,
    /// Most pixels that a place moves by itself along each axis: displacements drawn on a grid of 5 × 5 and interpolated
    /// between (elastic distortion, Simard et al. 2003, with a coarse grid in place of a blurred field).
    pub elastic: f32,
    /// Keys the random numbers.
    pub seed: u64,
}

/// Nodes along each side of the grid of elastic displacements.
const NODES: usize = 5;

impl Augment {
    /// Changes `pixels`, `[channels, height, width]`, of a sample in a pass. Places outside of the image are 0.
    ///
    /// # Errors
    /// A shape that does not fit, or bounds that are negative or not finite.
    pub fn apply(
        &self,
        [channels, height, width]: [usize; 3],
        pass: usize,
        sample: u64,
        pixels: &mut [f32],
    ) -> Result<()> {
        if pixels.len() != channels * height * width {
            let expected = format!("{channels} × {height} × {width}");
            return Err(Error::value("number of pixels", pixels.len(), expected));
        }
        let bounds = [self.shift, self.rotation_degrees, self.elastic];
        if let Some(wrong) = bounds.into_iter().find(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(Error::value("bound of an augmentation", wrong, "finite and at least 0"));
        }
        let mut walk = Stream::named(self.seed, &format!("augment/{pass}")).walk(sample);
        let mut within = |bound: f32| bound * (2.0 * walk.random::<f32>() - 1.0);
        let (dy, dx) = (within(self.shift), within(self.shift));
        let (sin, cos) = within(self.rotation_degrees).to_radians().sin_cos();
        let field: Vec<[f32; 2]> =
            (0..NODES * NODES).map(|_| [within(self.elastic), within(self.elastic)]).collect();
        let (middle_y, middle_x) = ((height as f32 - 1.0) / 2.0, (width as f32 - 1.0) / 2.0);
        let image = pixels.to_vec();
        for y in 0..height {
            for x in 0..width {
                let [by, bx] = bend(&field, y as f32 / height.max(2) as f32, x as f32 / width.max(2) as f32);
                let (v, u) = (y as f32 - middle_y, x as f32 - middle_x);
                let from_y = middle_y + cos * v - sin * u + dy + by;
                let from_x = middle_x + sin * v + cos * u + dx + bx;
                for c in 0..channels {
                    let channel = &image[c * height * width..(c + 1) * height * width];
                    pixels[(c * height + y) * width + x] = between(channel, height, width, from_y, from_x);
                }
            }
        }
        Ok(())
    }
}

/// The displacement at a place, both coordinates from 0 to 1.
fn bend(field: &[[f32; 2]], y: f32, x: f32) -> [f32; 2] {
    let (y, x) = (y * (NODES - 1) as f32, x * (NODES - 1) as f32);
    let (row, column) = ((y as usize).min(NODES - 2), (x as usize).min(NODES - 2));
    let (fy, fx) = (y - row as f32, x - column as f32);
    std::array::from_fn(|i| {
        let at = |r: usize, c: usize| field[(row + r) * NODES + column + c][i];
        (at(0, 0) * (1.0 - fx) + at(0, 1) * fx) * (1.0 - fy) + (at(1, 0) * (1.0 - fx) + at(1, 1) * fx) * fy
    })
}

fn between(image: &[f32], height: usize, width: usize, y: f32, x: f32) -> f32 {
    let (top, left) = (y.floor(), x.floor());
    let (fy, fx) = (y - top, x - left);
    let at = |dy: f32, dx: f32| {
        let (row, column) = (top + dy, left + dx);
        let inside = row >= 0.0 && column >= 0.0 && row < height as f32 && column < width as f32;
        if inside { image[row as usize * width + column as usize] } else { 0.0 }
    };
    (at(0.0, 0.0) * (1.0 - fx) + at(0.0, 1.0) * fx) * (1.0 - fy)
        + (at(1.0, 0.0) * (1.0 - fx) + at(1.0, 1.0) * fx) * fy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changes_nothing_and_shifts_keep_the_sum() {
        let mut image: Vec<f32> = vec![0.0; 2 * 21 * 21];
        image[10 * 21 + 10] = 1.0;
        image[21 * 21 + 9 * 21 + 12] = 0.5;
        let mut same = image.clone();
        Augment::default().apply([2, 21, 21], 3, 4, &mut same).expect("runs");
        assert_eq!(same, image);
        let shift = Augment { shift: 3.0, ..Augment::default() };
        let mut moved = image.clone();
        shift.apply([2, 21, 21], 3, 4, &mut moved).expect("runs");
        assert_ne!(moved, image);
        let sum = |x: &[f32]| x.iter().sum::<f32>();
        assert!((sum(&moved) - 1.5).abs() < 1e-5);
        let turn = Augment { rotation_degrees: 30.0, ..Augment::default() };
        let mut turned = image.clone();
        turn.apply([2, 21, 21], 3, 4, &mut turned).expect("runs");
        assert!((turned[10 * 21 + 10] - 1.0).abs() < 1e-5, "the middle stays");
        assert_ne!(turned, image);
    }

    #[test]
    fn wrong_sizes_and_bounds_are_refused() {
        assert!(Augment::default().apply([1, 2, 2], 0, 0, &mut [0.0; 5]).is_err());
        for shift in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(Augment { shift, ..Augment::default() }.apply([1, 2, 2], 0, 0, &mut [0.0; 4]).is_err());
        }
    }
}

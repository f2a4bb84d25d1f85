//! What goes into a model: token numbers, which of them count, and what should come out.

use crate::tensor::{IGNORE, Tensor};
use crate::{Error, Result};

/// Token numbers of several texts of one length.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Tokens, `[B, T]` (u32).
    pub ids: Tensor,
    /// Which of them are seen, `[B, T]` (u8); `None` for all.
    pub mask: Option<Tensor>,
    /// Positions, `[B, T]` (u32); `None` for 0, 1, ….
    pub positions: Option<Tensor>,
    /// Segments, `[B, T]` (u32); `None` for all 0. Only BERT has them.
    pub types: Option<Tensor>,
}

/// The label of a token that does not count, as files and PyTorch have it.
pub const IGNORE_LABEL: i64 = -100;

impl Batch {
    /// From rows of tokens.
    ///
    /// # Errors
    /// No rows, empty rows, rows of different length, a number that is no token.
    pub fn new<T: AsRef<[i64]>>(rows: &[T]) -> Result<Self> {
        Ok(Self { ids: table("input_ids", rows, None)?, mask: None, positions: None, types: None })
    }

    /// With a mask of the same shape: 1 where a token is seen, 0 where not.
    ///
    /// # Errors
    /// Another shape or other numbers.
    pub fn with_mask<T: AsRef<[i64]>>(mut self, rows: &[T]) -> Result<Self> {
        let mask = table("attention_mask", rows, Some(self.ids.shape()))?.to_u32()?;
        if let Some(bad) = mask.iter().find(|&&x| x > 1) {
            return Err(Error::value("a number in attention_mask", bad, "0 or 1"));
        }
        self.mask = Some(Tensor::from_u8(mask.iter().map(|&x| x as u8).collect(), self.ids.shape())?);
        Ok(self)
    }

    /// With positions of the same shape.
    ///
    /// # Errors
    /// Another shape, a negative number.
    pub fn with_positions<T: AsRef<[i64]>>(mut self, rows: &[T]) -> Result<Self> {
        self.positions = Some(table("position_ids", rows, Some(self.ids.shape()))?);
        Ok(self)
    }

    /// With segments of the same shape.
    ///
    /// # Errors
    /// Another shape, a negative number.
    pub fn with_types<T: AsRef<[i64]>>(mut self, rows: &[T]) -> Result<Self> {
        self.types = Some(table("token_type_ids", rows, Some(self.ids.shape()))?);
        Ok(self)
    }

    /// Texts and tokens of each.
    pub fn sizes(&self) -> (usize, usize) {
        (self.ids.shape()[0], self.ids.shape()[1])
    }
}

fn table<T: AsRef<[i64]>>(what: &str, rows: &[T], shape: Option<&[usize]>) -> Result<Tensor> {
    let width = rows.first().map_or(0, |row| row.as_ref().len());
    if width == 0 {
        return Err(Error::value(format!("the size of {what}"), "0", "at least one row of one token"));
    }
    if let Some((i, row)) = rows.iter().enumerate().find(|(_, row)| row.as_ref().len() != width) {
        let expected = format!("{width}, as that of the first");
        return Err(Error::value(format!("the length of row {i} of {what}"), row.as_ref().len(), expected));
    }
    if let Some(shape) = shape.filter(|&shape| shape != [rows.len(), width]) {
        let expected = format!("{shape:?}, as that of input_ids");
        return Err(Error::value(
            format!("the shape of {what}"),
            format!("[{}, {width}]", rows.len()),
            expected,
        ));
    }
    let number = |&id: &i64| match u32::try_from(id) {
        Ok(id) if id != IGNORE => Ok(id),
        _ => Err(Error::value(format!("a number in {what}"), id, "from 0 to the largest token")),
    };
    let values = rows.iter().flat_map(|row| row.as_ref()).map(number).collect::<Result<Vec<u32>>>()?;
    Tensor::from_u32(values, &[rows.len(), width])
}

/// What a model should say.
#[derive(Clone, Debug)]
pub enum Labels {
    /// For each token the next one, `[B · T]` (u32), [`IGNORE`] where it does not count.
    Tokens(Tensor),
    /// A class for each text, `[B]` (u32).
    Classes(Tensor),
    /// A number for each text, `[B]` (f32).
    Values(Tensor),
}

impl Labels {
    /// From labels that stand at their tokens, as Hugging Face has them: they are shifted by one, and
    /// [`IGNORE_LABEL`] (−100) does not count.
    ///
    /// # Errors
    /// Rows of different length, a negative label other than −100.
    pub fn next_tokens<T: AsRef<[i64]>>(rows: &[T]) -> Result<Self> {
        let width = rows.first().map_or(0, |row| row.as_ref().len());
        let mut values = Vec::with_capacity(rows.len() * width);
        for (i, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            if row.len() != width {
                let expected = format!("{width}, as that of the first");
                return Err(Error::value(format!("the length of row {i} of labels"), row.len(), expected));
            }
            for &label in row.iter().skip(1).chain(&[IGNORE_LABEL]).take(width) {
                values.push(match u32::try_from(label) {
                    Ok(label) if label != IGNORE => label,
                    _ if label == IGNORE_LABEL => IGNORE,
                    _ => return Err(Error::value("a label", label, "a token, or -100 for none")),
                });
            }
        }
        let n = values.len();
        Ok(Self::Tokens(Tensor::from_u32(values, &[n])?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_no_batch() {
        let refused = |rows: &[&[i64]]| Batch::new(rows).expect_err("refused").to_string();
        assert!(Batch::new(&[[1, 2], [3, 4]]).is_ok());
        assert!(refused(&[]).contains("at least one row"));
        assert!(refused(&[&[]]).contains("at least one row"));
        assert_eq!(
            refused(&[&[1, 2, 3], &[4]]),
            "the length of row 1 of input_ids is 1; it must be 3, as that of the first"
        );
        assert!(refused(&[&[1, -1]]).contains("a number in input_ids is -1"));
        assert!(refused(&[&[1, 1 << 62]]).contains("input_ids"));
        let batch = || Batch::new(&[[1, 2, 3]]).expect("good");
        assert!(batch().with_mask(&[[1, 1]]).is_err() && batch().with_mask(&[[1, 2, 1]]).is_err());
        assert!(batch().with_mask(&[[1, 0, 1]]).is_ok());
    }

    #[test]
    fn labels_are_shifted() {
        let Labels::Tokens(labels) = Labels::next_tokens(&[[-100, 5, 6], [7, -100, 8]]).expect("good") else {
            panic!("tokens")
        };
        assert_eq!(labels.to_u32().expect("u32"), [5, 6, IGNORE, IGNORE, 8, IGNORE]);
        assert!(Labels::next_tokens(&[[1, -1, 2]]).is_err());
    }
}

//! Keys and values of what was read already, so that the next token costs one token.

use crate::tensor::cpu::Buffer;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// Keys and values of all blocks, with room for a number of tokens.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) blocks: Vec<Block>,
    /// Tokens that are in it.
    pub(crate) length: usize,
    room: usize,
}

/// Keys and values of one block, `[B, G, room, D]` each.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub keys: Tensor,
    pub values: Tensor,
}

impl Cache {
    pub(crate) fn new(blocks: usize, shape: [usize; 4]) -> Result<Self> {
        let zeros = || Tensor::zeros(&shape, DType::F32);
        let blocks =
            (0..blocks).map(|_| Ok(Block { keys: zeros()?, values: zeros()? })).collect::<Result<_>>()?;
        Ok(Self { blocks, length: 0, room: shape[2] })
    }

    /// Tokens that have been read.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been read.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Refuses more tokens than there is room for.
    pub(crate) fn must_fit(&self, more: usize) -> Result<()> {
        match self.length + more <= self.room {
            true => Ok(()),
            false => {
                let expected = format!("at most {}, the room of the cache", self.room);
                Err(Error::value("the number of tokens", self.length + more, expected))
            }
        }
    }
}

impl Block {
    /// Writes keys and values `[B, G, T, D]` behind the first `at`.
    pub fn append(&mut self, at: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        for (to, from) in [(&mut self.keys, keys), (&mut self.values, values)] {
            let (&[b, g, room, d], &[.., t, _]) = (to.shape(), from.shape()) else {
                return Err(Error::Internal("a cache of another shape".into()));
            };
            let (Buffer::F32(to), from) = (to.buffer_mut()?, from.as_f32()?) else {
                return Err(Error::Internal("a cache that is not f32".into()));
            };
            for head in 0..b * g {
                let start = (head * room + at) * d;
                to[start..start + t * d].copy_from_slice(&from[head * t * d..(head + 1) * t * d]);
            }
        }
        Ok(())
    }
}

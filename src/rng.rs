//! Counter-based random numbers: Philox 4×32-10 (Salmon et al., SC 2011), keyed by name.
//!
//! A [`Stream`] is a pure function of (seed, name, counter). Results therefore do not depend on the number of
//! threads, on the batch size or on what else is in the network, and a GPU draws the same numbers.

use rand::rand_core::{Infallible, TryRng};

/// One Philox 4×32-10 block: four uniform 32-bit words from a 128-bit counter and a 64-bit key.
///
/// ```
/// // Known answer from the Random123 distribution.
/// assert_eq!(ransnn::rng::philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
#[inline(always)]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let product0 = 0xD251_1F53u64 * u64::from(counter[0]);
        let product1 = 0xCD9E_8D57u64 * u64::from(counter[2]);
        counter = [
            (product1 >> 32) as u32 ^ counter[1] ^ key[0],
            product1 as u32,
            (product0 >> 32) as u32 ^ counter[3] ^ key[1],
            product0 as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// A named family of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The stream `name` of `seed`, for example `Stream::named(7, "projection/random/weights")`.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a over the name, then one Philox block to mix it with the seed.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mixed = philox(
            [seed as u32, (seed >> 32) as u32, hash as u32, (hash >> 32) as u32],
            [0x7261_6e73, 0x6e6e_0001],
        );
        Self { key: [mixed[0], mixed[1]] }
    }

    /// The Philox key, for a kernel or a vectorised generator that draws the same numbers.
    pub fn key(&self) -> [u32; 2] {
        self.key
    }

    /// Four words at a counter.
    #[inline(always)]
    pub fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        philox(counter, self.key)
    }

    /// The numbers of a [`walk`](Self::walk) from its block `first` on, two a block, as `random::<f64>` draws them.
    #[inline(always)]
    pub(crate) fn uniform(&self, index: u64, first: u64, numbers: &mut [f64; 64]) {
        for (i, two) in numbers.as_chunks_mut().0.iter_mut().enumerate() {
            let block = first + i as u64;
            let counter = [block as u32, (block >> 32) as u32, index as u32, (index >> 32) as u32];
            let [a, b, c, d] = self.block(counter);
            let uniform = |low: u32, high: u32| {
                ((u64::from(high) << 32 | u64::from(low)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
            };
            *two = [uniform(a, b), uniform(c, d)];
        }
    }

    /// A generator that walks the counters `(0, 0, index)`, `(1, 0, index)`, …, for `rand` and `rand_distr`.
    ///
    /// ```
    /// use rand::RngExt;
    /// use ransnn::rng::Stream;
    /// let stream = Stream::named(7, "example");
    /// let (a, b): (u32, u32) = (stream.walk(3).random(), stream.walk(3).random());
    /// assert_eq!(a, b);
    /// ```
    pub fn walk(&self, index: u64) -> Walk {
        Walk { stream: *self, index, position: 0, words: [0; 4], used: 4 }
    }
}

/// Sequential access to one index of a [`Stream`].
#[derive(Clone, Debug)]
pub struct Walk {
    stream: Stream,
    index: u64,
    position: u64,
    words: [u32; 4],
    used: usize,
}

impl TryRng for Walk {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.used == 4 {
            let (p, i) = (self.position, self.index);
            self.words = self.stream.block([p as u32, (p >> 32) as u32, i as u32, (i >> 32) as u32]);
            self.position += 1;
            self.used = 0;
        }
        self.used += 1;
        Ok(self.words[self.used - 1])
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.try_next_u32()?);
        Ok(low | u64::from(self.try_next_u32()?) << 32)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            let word = self.try_next_u32()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt};

    #[test]
    fn known_answers() {
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn streams_differ_by_seed_name_and_index() {
        let draw = |seed, name: &str, index| Stream::named(seed, name).walk(index).next_u64();
        let all = [draw(0, "a", 0), draw(1, "a", 0), draw(0, "b", 0), draw(0, "a", 1)];
        assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])));
    }

    #[test]
    fn uniform_mean_is_within_bounds() {
        let mut walk = Stream::named(1, "mean").walk(0);
        let mean = (0..100_000).map(|_| walk.random::<f64>()).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 4.0 / (12.0f64 * 1e5).sqrt());
    }
}

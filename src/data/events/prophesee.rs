//! Prophesee's formats: EVT2 and EVT3 words, and DAT, each after a header of lines that begin with `%`.

use super::{Collected, Event, Recording, Wrong};

/// Lines of the header without their `%`, and where the events begin.
fn header(bytes: &[u8]) -> (Vec<String>, usize) {
    let (mut lines, mut at) = (Vec::new(), 0);
    while bytes.get(at) == Some(&b'%') {
        let length = bytes[at..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - at - 1);
        let line = String::from_utf8_lossy(&bytes[at + 1..at + length]).trim().to_string();
        at += length + 1;
        // Words after this line may begin with the byte of `%`.
        let last = line == "end";
        lines.push(line);
        if last {
            break;
        }
    }
    (lines, at)
}

/// The version of EVT that a header states.
pub(super) fn version(bytes: &[u8]) -> Option<u8> {
    let (lines, _) = header(bytes);
    lines.iter().find_map(|line| {
        let line = line.to_ascii_lowercase();
        match line.strip_prefix("evt ") {
            Some(version) => version.trim().chars().next()?.to_digit(10).map(|digit| digit as u8),
            None => match line.strip_prefix("format evt") {
                Some(version) => version.chars().next()?.to_digit(10).map(|digit| digit as u8),
                None => None,
            },
        }
    })
}

/// Height and width, where the header states them: `geometry 640x480`, or `height=` and `width=` in a `format` line, or
/// lines of their own.
fn size(lines: &[String]) -> Option<[usize; 2]> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n > 0);
    let named = |name: &str| {
        lines.iter().flat_map(|line| line.split(';')).find_map(|part| {
            let part = part.trim().to_ascii_lowercase();
            number(part.strip_prefix(name)?.trim_start_matches(['=', ' ']))
        })
    };
    let geometry = lines.iter().find_map(|line| {
        let (width, height) = line.strip_prefix("geometry")?.split_once('x')?;
        Some([number(height)?, number(width)?])
    });
    geometry.or_else(|| Some([named("height")?, named("width")?]))
}

/// Reads EVT2: 32-bit little-endian words of a type in the highest 4 bits. Types 0 and 1 are falls and rises with 6 low bits
/// of the time, 11 of x and 11 of y; type 8 holds the 28 high bits of the time. Others say nothing about brightness.
///
/// # Errors
/// A length that is no whole number of words, a type that does not exist, an event before any time, times that fall by
/// more than a wrap of the clock, or an event outside of the size that the header states.
pub fn evt2(bytes: &[u8]) -> Result<Recording, Wrong> {
    let (lines, start) = header(bytes);
    let (words, rest) = bytes[start.min(bytes.len())..].as_chunks::<4>();
    if !rest.is_empty() {
        return Err(cut_off(rest.len(), 4));
    }
    let mut collected = Collected::new(size(&lines));
    let mut clock = Clock::new(28);
    for (i, &word) in words.iter().enumerate() {
        let word = u32::from_le_bytes(word);
        match word >> 28 {
            kind @ (0 | 1) => {
                let Some(high) = clock.now else { continue }; // a recording may begin in the middle of a stream
                let time_us = high << 6 | u64::from(word >> 22 & 0x3f);
                let (x, y) = ((word >> 11 & 0x7ff) as u16, (word & 0x7ff) as u16);
                collected.push(Event { time_us, x, y, rise: kind == 1 })?;
            }
            8 => clock.set(u64::from(word & 0x0fff_ffff)),
            0xa | 0xe | 0xf => {}
            kind => return Err(unknown(i, kind)),
        }
    }
    Ok(collected.finish())
}

/// Reads EVT3: 16-bit little-endian words that change a state of row, column and time; a column with polarity is an event, a
/// vector up to 12 events side by side.
///
/// # Errors
/// As [`evt2`].
pub fn evt3(bytes: &[u8]) -> Result<Recording, Wrong> {
    let (lines, start) = header(bytes);
    let (words, rest) = bytes[start.min(bytes.len())..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(cut_off(rest.len(), 2));
    }
    let mut collected = Collected::new(size(&lines));
    let mut clock = Clock::new(12);
    let (mut low, mut row, mut base, mut base_rise) = (0u64, None, 0u16, false);
    for (i, &word) in words.iter().enumerate() {
        let word = u16::from_le_bytes(word);
        let value = word & 0x7ff;
        match word >> 12 {
            0x0 => row = Some(value),
            0x2 => {
                if let (Some(high), Some(y)) = (clock.now, row) {
                    collected.push(Event {
                        time_us: high << 12 | low,
                        x: value,
                        y,
                        rise: word & 0x800 != 0,
                    })?;
                }
            }
            0x3 => (base, base_rise) = (value, word & 0x800 != 0),
            kind @ (0x4 | 0x5) => {
                let n = if kind == 4 { 12 } else { 8 };
                if let (Some(high), Some(y)) = (clock.now, row) {
                    for bit in (0..n).filter(|bit| word >> bit & 1 == 1) {
                        let event = Event { time_us: high << 12 | low, x: base + bit, y, rise: base_rise };
                        collected.push(event)?;
                    }
                }
                base = (base + n).min(0x7ff);
            }
            0x6 => low = u64::from(word & 0xfff),
            0x8 => {
                let high = u64::from(word & 0xfff);
                // The low bits start again with the high ones, whose word may come first.
                if clock.now.is_none_or(|now| now & 0xfff != high) {
                    low = 0;
                }
                clock.set(high);
            }
            0x7 | 0xa | 0xe | 0xf => {}
            kind => return Err(unknown(i, kind.into())),
        }
    }
    Ok(collected.finish())
}

/// Reads DAT: after the header a byte for the type of event and one for its size, then 32 bits of microseconds and 32 bits of
/// 14 for x, 14 for y and 4 for the polarity (version 1: 9, 8 and 1).
///
/// # Errors
/// A header without an end, events of another size than 8 bytes, and as [`evt2`].
pub fn dat(bytes: &[u8]) -> Result<Recording, Wrong> {
    let (lines, start) = header(bytes);
    let old = lines.iter().any(|line| line.eq_ignore_ascii_case("version 1"));
    let Some(&[kind, wide]) = bytes.get(start..start + 2).and_then(|two| two.first_chunk::<2>()) else {
        return Err("it ends before its first event: it was cut off".into());
    };
    if lines.is_empty() || wide != 8 {
        return Err(format!("events of type {kind} have {wide} bytes, where 8 are expected after a header"));
    }
    let (words, rest) = bytes[start + 2..].as_chunks::<8>();
    if !rest.is_empty() {
        return Err(cut_off(rest.len(), 8));
    }
    let mut collected = Collected::new(size(&lines));
    for &[a, b, c, d, e, f, g, h] in words {
        let (time, word) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let (x, y, rise) = match old {
            true => (word & 0x1ff, word >> 9 & 0xff, word >> 17 & 1),
            false => (word & 0x3fff, word >> 14 & 0x3fff, word >> 28 & 0xf),
        };
        collected.push(Event { time_us: time.into(), x: x as u16, y: y as u16, rise: rise > 0 })?;
    }
    Ok(collected.finish())
}

fn cut_off(rest: usize, word: usize) -> Wrong {
    format!("{rest} bytes are left after the last whole word of {word}: it was cut off")
}

fn unknown(i: usize, kind: u32) -> Wrong {
    format!("word {i} after the header has the type {kind:#x}, which does not exist")
}

/// The high bits of a clock, which wrap around.
struct Clock {
    bits: u32,
    now: Option<u64>,
}

impl Clock {
    fn new(bits: u32) -> Self {
        Self { bits, now: None }
    }

    /// A value lower than the last by more than half the range is one round later.
    fn set(&mut self, value: u64) {
        let round = 1u64 << self.bits;
        let now = self.now.unwrap_or(0);
        let rounds = now / round + u64::from(value + round / 2 < now % round);
        self.now = Some(rounds * round + value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(header: &str, words: &[u32]) -> Vec<u8> {
        header.bytes().chain(words.iter().flat_map(|word| word.to_le_bytes())).collect()
    }

    #[test]
    fn evt2_words_become_events() {
        let file = words(
            "% evt 2.0\n% geometry 640x480\n",
            &[1 << 28 | 5, 8 << 28 | 3, 1 << 28 | 7 << 22 | 600 << 11 | 400],
        );
        let recording = evt2(&file).expect("events");
        assert_eq!(version(&file), Some(2));
        // The first event came before any time and is left out.
        assert_eq!(recording.events, [Event { time_us: 3 * 64 + 7, x: 600, y: 400, rise: true }]);
        assert_eq!((recording.height, recording.width), (480, 640));
        let wrong = |word: u32| {
            evt2(&words("% evt 2.0\n% geometry 640x480\n", &[8 << 28, word])).expect_err("refused")
        };
        assert!(wrong(640 << 11).contains("x 640"));
        assert!(wrong(5 << 28).contains("type 0x5"));
        assert!(
            evt2(&[b"% evt 2.0\n" as &[u8], &[1, 2, 3]].concat()).expect_err("refused").contains("cut off")
        );
    }

    #[test]
    fn evt3_vectors_become_events() {
        let sixteen =
            [0x8001u16, 0x6005, 9, 0x2000 | 0x800 | 4, 0x3000 | 20, 0x4000 | 0b1000_0000_0001, 0x5000 | 0b10];
        let bytes: Vec<u8> = b"% format EVT3;height=10;width=40\n"
            .iter()
            .copied()
            .chain(sixteen.iter().flat_map(|w| w.to_le_bytes()))
            .collect();
        assert_eq!(version(&bytes), Some(3));
        let recording = evt3(&bytes).expect("events");
        let at = |x, rise| Event { time_us: 4096 + 5, x, y: 9, rise };
        assert_eq!(recording.events, [at(4, true), at(20, false), at(31, false), at(33, false)]);
        assert_eq!((recording.height, recording.width), (10, 40));
        assert!(evt3(&bytes[..bytes.len() - 1]).expect_err("refused").contains("cut off"));
    }

    #[test]
    fn clocks_wrap() {
        let mut clock = Clock::new(12);
        for (value, now) in [(4000, 4000), (4095, 4095), (0, 4096), (1, 4097), (4095, 8191), (3, 8195)] {
            clock.set(value);
            assert_eq!(clock.now, Some(now));
        }
    }

    #[test]
    fn dat_files_are_checked() {
        let file = |tail: &[u8]| [b"% Version 2\n% Height 4\n% Width 5\n" as &[u8], tail].concat();
        let event =
            |time: u32, x: u32, y: u32| [time.to_le_bytes(), (x | y << 14 | 1 << 28).to_le_bytes()].concat();
        let good = dat(&file(&[&[12, 8], &event(7, 4, 3)[..]].concat())).expect("an event");
        assert_eq!(good.events, [Event { time_us: 7, x: 4, y: 3, rise: true }]);
        let wrong = |tail: &[u8]| dat(&file(tail)).expect_err("refused");
        assert!(wrong(&[12]).contains("cut off") && wrong(&[12, 4]).contains("4 bytes"));
        assert!(wrong(&[&[12, 8], &event(7, 5, 3)[..]].concat()).contains("x 5"));
        assert!(wrong(&[&[12, 8], &event(7, 1, 3)[..], &event(6, 1, 3)[..]].concat()).contains("6 µs"));
        assert!(wrong(&[&[12, 8], &event(7, 4, 3)[..5]].concat()).contains("cut off"));
    }
}

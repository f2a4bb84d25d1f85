//! Timing: one warm-up, then repeats that are long enough for the clock.

use super::{Floor, Unit};
use crate::error::Result;
use std::time::Instant;

/// Times a piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    /// At least 1.
    pub repeats: usize,
    /// A repeat makes calls until so much time has passed.
    pub least_seconds: f64,
}

/// Seconds of one call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Times {
    /// Of each repeat, ascending.
    seconds: Vec<f64>,
    /// Processor time of one call, mean over all repeats.
    pub cpu_seconds: Option<f64>,
}

/// What a case found.
#[derive(Debug)]
pub(super) struct Measured {
    pub times: Times,
    pub unit: Unit,
    /// Samples or steps of one call.
    pub amount: f64,
    /// Of one call.
    pub floor: Floor,
}

impl Timer {
    /// Calls `work` once to warm up, then in timed repeats.
    pub fn measure(&self, mut work: impl FnMut() -> Result<()>) -> Result<Times> {
        work()?;
        let (mut seconds, mut all_calls) = (Vec::with_capacity(self.repeats), 0);
        let cpu_before = cpu_seconds();
        for _ in 0..self.repeats {
            let (start, mut calls) = (Instant::now(), 0);
            let elapsed = loop {
                work()?;
                calls += 1;
                let elapsed = start.elapsed().as_secs_f64();
                if elapsed >= self.least_seconds {
                    break elapsed;
                }
            };
            seconds.push(elapsed / f64::from(calls));
            all_calls += calls;
        }
        let cpu = cpu_before.zip(cpu_seconds());
        let cpu_seconds = cpu.map(|(before, after)| (after - before) / f64::from(all_calls));
        Ok(Times::new(seconds, cpu_seconds))
    }

    /// [`measure`](Self::measure) of `work` alone, where each call is undone. A repeat is one call.
    pub fn measure_undone<S>(
        &self,
        state: &mut S,
        work: impl Fn(&mut S) -> Result<()>,
        undo: impl Fn(&mut S),
    ) -> Result<Times> {
        work(state)?;
        undo(state);
        let (mut seconds, mut cpu) = (Vec::with_capacity(self.repeats), Some(0.0));
        for _ in 0..self.repeats {
            let (start, before) = (Instant::now(), cpu_seconds());
            work(state)?;
            seconds.push(start.elapsed().as_secs_f64());
            let spent = before.zip(cpu_seconds()).map(|(before, after)| after - before);
            cpu = cpu.zip(spent).map(|(sum, more)| sum + more);
            undo(state);
        }
        Ok(Times::new(seconds, cpu.map(|sum| sum / self.repeats as f64)))
    }
}

impl Times {
    fn new(mut seconds: Vec<f64>, cpu_seconds: Option<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self { seconds, cpu_seconds }
    }

    /// Mean of the middle two where the number is even.
    pub fn median(&self) -> f64 {
        let n = self.seconds.len();
        (self.seconds[(n - 1) / 2] + self.seconds[n / 2]) / 2.0
    }

    /// (slowest − fastest) / median.
    pub fn spread(&self) -> f64 {
        (self.seconds[self.seconds.len() - 1] - self.seconds[0]) / self.median()
    }
}

/// Processor time of this process in user and system mode, in ticks of 10 ms (Linux).
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may contain anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread() {
        let times = |seconds: &[f64]| Times { seconds: seconds.to_vec(), cpu_seconds: None };
        assert_eq!((times(&[2.0]).median(), times(&[2.0]).spread()), (2.0, 0.0));
        assert_eq!((times(&[1.0, 2.0, 5.0]).median(), times(&[1.0, 2.0, 5.0]).spread()), (2.0, 2.0));
        assert_eq!(times(&[1.0, 2.0, 4.0, 5.0]).median(), 3.0);
    }

    #[test]
    fn what_is_undone_is_not_timed() -> Result<()> {
        let timer = Timer { repeats: 3, least_seconds: 0.0 };
        let mut calls = (0, 0);
        let undo = |calls: &mut (i32, i32)| {
            calls.1 += 1;
            std::thread::sleep(std::time::Duration::from_millis(200));
        };
        let work = |calls: &mut (i32, i32)| {
            calls.0 += 1;
            Ok(())
        };
        let times = timer.measure_undone(&mut calls, work, undo)?;
        assert_eq!(calls, (4, 4));
        assert!(times.median() < 0.1);
        Ok(())
    }

    #[test]
    fn calls_are_counted_and_errors_end_it() -> Result<()> {
        let mut calls = 0;
        let timer = Timer { repeats: 3, least_seconds: 0.0 };
        let times = timer.measure(|| {
            calls += 1;
            Ok(())
        })?;
        assert_eq!((calls, times.seconds.len()), (4, 3)); // one to warm up
        assert!(times.seconds.is_sorted() && times.seconds[0] >= 0.0);
        let failed = timer.measure(|| Err(crate::Error::Internal("stop".into())));
        assert_eq!(failed.expect_err("is passed on").to_string(), "internal error: stop");
        Ok(())
    }
}

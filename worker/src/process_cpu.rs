//! CPU time of this process.
//!
//! Rule: measured between two calls; nothing is known of the time before the first, or on systems
//! other than Linux.

use std::time::{Duration, Instant};

/// Clock ticks per second in `/proc`: the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;
/// Shorter intervals have too few ticks to mean anything.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// The CPU time at the last call.
#[derive(Debug, Default)]
pub struct ProcessCpu {
    before: Option<(Instant, Duration)>,
    last: Option<u32>,
}

impl ProcessCpu {
    /// CPU time since the last call, in thousandths of one processor.
    pub fn permille(&mut self) -> Option<u32> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        self.since(Instant::now(), spent(&text)?)
    }

    fn since(&mut self, now: Instant, spent: Duration) -> Option<u32> {
        let Some((at, before)) = self.before else {
            self.before = Some((now, spent));
            return None;
        };
        let elapsed = now.saturating_duration_since(at);
        if elapsed < INTERVAL_MIN {
            return self.last;
        }
        self.before = Some((now, spent));
        let used = spent.saturating_sub(before).as_micros() * 1_000;
        self.last = u32::try_from(used / elapsed.as_micros().max(1)).ok();
        self.last
    }
}

/// User and system time in `/proc/self/stat`. The name before them may hold spaces and brackets.
fn spent(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user.checked_add(system)?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_the_process_are_read_behind_its_name() {
        let text = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 1 2 3";
        assert_eq!(spent(text), Some(Duration::from_secs(3)));
        assert_eq!(spent("7 (x) S 1"), None);
    }

    #[test]
    fn cpu_time_is_of_the_interval_between_two_calls() {
        let mut cpu = ProcessCpu::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(cpu.since(begin, Duration::from_secs(9)), None);
        let two = Duration::from_secs(11);
        assert_eq!(cpu.since(at(1_000), two), Some(2_000), "two processors");
        assert_eq!(cpu.since(at(1_050), two), Some(2_000), "too soon");
        assert_eq!(cpu.since(at(2_000), two), Some(0));
    }
}

//! A share of the memory, held by windows.
//!
//! Owns: the arithmetic. Does not own: what a holder does when it gets no more.
//! Rule: no holder waits here. Each holder is guaranteed its minimum; a quarter of the share is
//! reserved for that, the rest is first come, first served.

use crate::query::QueryMemory;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that several holders share.
#[derive(Debug)]
pub struct Share {
    minimum: usize,
    common: usize,
    /// Free bytes of the common part; negative if holders took more without a reservation.
    free: Mutex<i64>,
}

/// The bytes of one holder. They are released when dropped.
#[derive(Debug)]
pub struct Holding {
    share: Arc<Share>,
    minimum: usize,
    used: Mutex<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Share {
    /// Creates a share of this many bytes for this many holders with a minimum.
    pub fn new(bytes: usize, holders: usize) -> Self {
        let common = bytes - bytes / 4;
        Self {
            minimum: bytes / 4 / holders.max(1),
            common,
            free: Mutex::new(signed(common)),
        }
    }

    /// The most that one holder can ever have.
    pub fn most(&self) -> usize {
        self.common + self.minimum
    }

    /// Bytes of the common part that are free.
    pub fn free(&self) -> usize {
        usize::try_from(*lock(&self.free)).unwrap_or(0)
    }
}

impl Holding {
    /// Creates a holder with a guaranteed minimum.
    pub fn with_minimum(share: Arc<Share>) -> Self {
        let minimum = share.minimum;
        Self {
            share,
            minimum,
            used: Mutex::new(0),
        }
    }

    /// Creates a holder that has only free bytes.
    pub fn without_minimum(share: Arc<Share>) -> Self {
        Self {
            share,
            minimum: 0,
            used: Mutex::new(0),
        }
    }

    fn beyond(&self, used: usize) -> i64 {
        signed(used.saturating_sub(self.minimum))
    }

    fn change(&self, to: impl FnOnce(usize) -> usize, even_if_short: bool) -> bool {
        let mut used = lock(&self.used);
        let to = to(*used);
        let more = self.beyond(to) - self.beyond(*used);
        let mut free = lock(&self.share.free);
        if more > 0 && *free < more && !even_if_short {
            return false;
        }
        *free -= more;
        *used = to;
        true
    }

    /// Takes more bytes. Returns false and takes nothing if they are not available.
    pub fn try_grow(&self, bytes: usize) -> bool {
        self.change(|used| used.saturating_add(bytes), false)
    }

    /// Takes more bytes unconditionally: memory that is already in use must be counted.
    pub fn grow(&self, bytes: usize) {
        self.change(|used| used.saturating_add(bytes), true);
    }

    pub fn shrink(&self, bytes: usize) {
        self.change(|used| used.saturating_sub(bytes), true);
    }

    /// Sets the held bytes to exactly this number. Returns false and changes nothing if that is
    /// more and the bytes are not available.
    pub fn try_set(&self, bytes: usize) -> bool {
        self.change(|_| bytes, false)
    }

    /// Sets the held bytes to exactly this number, even if they are not available.
    pub fn set(&self, bytes: usize) {
        self.change(|_| bytes, true);
    }

    pub fn used(&self) -> usize {
        *lock(&self.used)
    }

    pub fn minimum(&self) -> usize {
        self.minimum
    }

    /// The most that it could ever hold.
    pub fn most(&self) -> usize {
        self.share.common + self.minimum
    }
}

impl QueryMemory for Holding {
    fn try_grow(&self, bytes: usize) -> bool {
        Holding::try_grow(self, bytes)
    }
    fn grow(&self, bytes: usize) {
        Holding::grow(self, bytes);
    }
    fn shrink(&self, bytes: usize) {
        Holding::shrink(self, bytes);
    }
    fn used(&self) -> usize {
        Holding::used(self)
    }
    fn most(&self) -> usize {
        Holding::most(self)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_its_minimum_whatever_the_others_take() {
        let share = Arc::new(Share::new(1_000, 5));
        let greedy = Holding::with_minimum(Arc::clone(&share));
        let late = Holding::with_minimum(Arc::clone(&share));
        assert!(
            greedy.try_grow(800) && !greedy.try_grow(1),
            "750 are common, 50 its own"
        );
        assert!(late.try_grow(50) && !late.try_grow(1));
        assert!(!Holding::without_minimum(Arc::clone(&share)).try_grow(1));
        greedy.shrink(100);
        assert!(late.try_grow(100));
        drop((greedy, late));
        assert_eq!(share.free(), 750);
    }

    #[test]
    fn what_is_taken_without_asking_is_owed() {
        let share = Arc::new(Share::new(1_000, 1));
        let owing = Holding::without_minimum(Arc::clone(&share));
        let other = Holding::without_minimum(share);
        owing.grow(2_000);
        assert!(!other.try_grow(1));
        assert!(owing.try_set(700) && other.try_grow(50) && !other.try_grow(1));
    }
}

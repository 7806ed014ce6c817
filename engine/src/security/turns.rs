//! Counts the concurrent calls of each caller.
//!
//! Owns: the count, per caller and kind of call. Does not own: the identity of a caller (`access`),
//! which calls count (`gate`, the services).
//! Rule: a caller at its limit is refused at once; it never waits, and never delays others.

use super::access::Caller;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The identity under which a call counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CountedFor {
    /// The caller with this name.
    Name(String),
    /// Without authentication: callers at this address.
    Address(IpAddr),
    /// Callers within this process.
    Process,
}

impl CountedFor {
    /// The identity of a caller at this address.
    pub fn of(caller: &Caller, address: Option<IpAddr>) -> Self {
        match (&caller.name, address) {
            (Some(name), _) => Self::Name(name.clone()),
            (None, Some(address)) => Self::Address(address.to_canonical()),
            (None, None) => Self::Process,
        }
    }
}

/// The count of one kind of call. Clones share it.
#[derive(Clone, Debug)]
pub struct Turns {
    each_max: usize,
    under_way: Arc<Mutex<BTreeMap<CountedFor, usize>>>,
}

/// A call in flight, until this is dropped.
#[derive(Debug)]
pub struct Turn {
    caller: CountedFor,
    under_way: Arc<Mutex<BTreeMap<CountedFor, usize>>>,
}

impl Turns {
    /// At most this many concurrent calls for each caller. The limit on all concurrent calls bounds
    /// the number of callers.
    pub fn new(each_max: usize) -> Self {
        Self {
            each_max,
            under_way: Arc::default(),
        }
    }

    /// One more call of this caller; `None`: it is at its limit.
    pub fn take(&self, caller: &CountedFor) -> Option<Turn> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let calls = under_way.get(caller).copied().unwrap_or_default();
        if calls >= self.each_max {
            return None;
        }
        under_way.insert(caller.clone(), calls + 1);
        Some(Turn {
            caller: caller.clone(),
            under_way: Arc::clone(&self.under_way),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match under_way.get_mut(&self.caller) {
            Some(calls) if *calls > 1 => *calls -= 1,
            _ => _ = under_way.remove(&self.caller),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> CountedFor {
        CountedFor::of(
            &Caller {
                name: Some(name.to_owned()),
                role: None,
            },
            None,
        )
    }

    #[test]
    fn a_caller_has_so_many_at_once_and_others_do_not_notice() {
        let turns = Turns::new(2);
        let mut held = vec![
            turns.take(&name("a")).unwrap(),
            turns.take(&name("a")).unwrap(),
        ];
        assert!(turns.take(&name("a")).is_none());
        assert!(turns.take(&name("b")).is_some());
        held.pop();
        held.push(turns.take(&name("a")).unwrap());
        assert!(turns.take(&name("a")).is_none());
        drop(held);
        assert!(
            turns.under_way.lock().unwrap().is_empty(),
            "nobody is remembered"
        );
    }

    #[test]
    fn a_caller_without_a_name_is_counted_by_its_address() {
        let at = |address: &str| CountedFor::of(&Caller::ANYBODY, Some(address.parse().unwrap()));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(CountedFor::of(&Caller::ANYBODY, None), CountedFor::Process);
    }
}

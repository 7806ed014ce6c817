//! How often each address was refused.
//!
//! Owns: a bounded table of allowances. Does not own: the refusals (`gate`).
//! Rule: a caller with a valid token is never delayed by others from the same address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Consecutive refused calls of one address before its connections are closed.
pub const REFUSALS_BURST: u32 = 20;
/// After this time one more is allowed.
pub const REFUSAL_REFILL: Duration = Duration::from_secs(1);
/// Addresses that are remembered; beyond that, those refused longest ago are forgotten.
pub const REFUSED_ADDRESSES_MAX: usize = 4_096;

/// How to handle a refused call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Respond {
        /// The first of its address: log it.
        first: bool,
    },
    /// Its address was refused too often: the connection is closed.
    HangUp,
}

#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<IpAddr, Allowance>>);

#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    since: Instant,
}

impl Refusals {
    pub fn note(&self, address: IpAddr) -> Refused {
        let now = Instant::now();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.contains_key(&address) && table.len() >= REFUSED_ADDRESSES_MAX {
            let oldest = table
                .iter()
                .min_by_key(|(_, allowance)| allowance.since)
                .map(|(address, _)| *address);
            oldest.and_then(|oldest| table.remove(&oldest));
        }
        let full = Allowance {
            left: REFUSALS_BURST,
            since: now,
        };
        let allowance = table.entry(address).or_insert(full);
        let earned = now.duration_since(allowance.since).as_secs() / REFUSAL_REFILL.as_secs();
        if earned > 0 {
            allowance.left = allowance
                .left
                .saturating_add(u32::try_from(earned).unwrap_or(u32::MAX))
                .min(REFUSALS_BURST);
            allowance.since = now;
        }
        match allowance.left {
            0 => Refused::HangUp,
            left => {
                allowance.left = left - 1;
                Refused::Respond {
                    first: left == REFUSALS_BURST,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_is_cut_off_and_comes_back_and_others_are_not_touched() {
        let table = Refusals::default();
        let responded = (0..100)
            .filter(|_| table.note(address(1)) != Refused::HangUp)
            .count();
        assert_eq!(responded, REFUSALS_BURST as usize);
        assert_eq!(table.note(address(2)), Refused::Respond { first: true });
        tokio::time::advance(REFUSAL_REFILL * 3).await;
        let responded = (0..100)
            .filter(|_| table.note(address(1)) != Refused::HangUp)
            .count();
        assert_eq!(responded, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded() {
        let table = Refusals::default();
        for n in 0..(REFUSED_ADDRESSES_MAX as u32 + 100) {
            table.note(address(n));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(table.0.lock().unwrap().len(), REFUSED_ADDRESSES_MAX);
        assert!(
            !table.0.lock().unwrap().contains_key(&address(0)),
            "the oldest is forgotten"
        );
    }
}

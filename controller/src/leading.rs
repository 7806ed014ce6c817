//! Which controller leads, as the services of this process see it.
//!
//! Rule: a service acts only with the handle of a leader that runs here; otherwise it names the
//! leader.

use crate::handle::{Handle, NotLeading};
use streamctl_proto::Term;
use streamctl_proto::refusal::{CallRefusal, Reason};
use tokio::sync::watch;
use tonic::Status;

#[derive(Clone)]
pub enum Leading {
    Here(Handle),
    /// Another controller, with its address if known.
    Elsewhere(Option<String>),
}

/// Which controller leads, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// This process, in this term.
    Here(Term),
    /// Another controller, with its address if known.
    Elsewhere(Option<String>),
}

#[derive(Clone)]
pub struct Leader(watch::Receiver<Leading>);

impl Leader {
    pub fn new(leading: watch::Receiver<Leading>) -> Self {
        Self(leading)
    }

    /// Which controller leads now.
    pub fn who(&self) -> Who {
        match &*self.0.borrow() {
            Leading::Here(handle) => Who::Here(handle.term),
            Leading::Elsewhere(address) => Who::Elsewhere(address.clone()),
        }
    }

    /// The handle of the leader, or the error for a caller of the wrong controller.
    pub fn handle(&self) -> Result<Handle, Status> {
        match &*self.0.borrow() {
            Leading::Here(handle) => Ok(handle.clone()),
            Leading::Elsewhere(address) => Err(elsewhere(address.as_deref())),
        }
    }
}

fn elsewhere(address: Option<&str>) -> Status {
    match address {
        None => Status::from(CallRefusal::new(
            Reason::NoLeader,
            "no controller leads at the moment",
        )),
        Some(address) => Status::from(
            CallRefusal::new(
                Reason::Standby,
                format!("this controller stands by; {address} leads"),
            )
            .leader(address),
        ),
    }
}

impl From<NotLeading> for Status {
    fn from(_: NotLeading) -> Self {
        Status::from(CallRefusal::new(
            Reason::LeadershipLost,
            "this controller has just stopped leading; another will within seconds, try again",
        ))
    }
}

//! The faults, as data.
//!
//! Owns: what is struck, for how long, what must be noticed, and the target times. Does not own:
//! how it is done (`strike`), how it is measured (`run`).
//! Rule: a new fault is a new line here; names are stable, because users select by them (`make
//! chaos ONLY=name`).

use crate::proxy::Mode;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The worker with the most tasks.
    Worker,
    Workers,
    Leader,
    /// The controller on standby.
    Standby,
    Controllers,
    Programs,
    /// All our programs, and all members of etcd.
    ProgramsAndEtcd,
    /// The leading member of etcd.
    EtcdLeader,
    /// Two of its three members.
    EtcdMost,
    S3,
}

/// One or several servers behind links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Controllers,
    Etcd,
    S3,
    Kinesis,
    Everything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// `kill -9`; restarted after the fault's time.
    Kill(Who),
    /// `kill -9` of the processes of functions on the worker with the most tasks.
    KillFunctions,
    /// SIGSTOP, and SIGCONT after the fault's time.
    Pause(Who),
    /// The links of these (or of all our programs) to these servers, healed after the fault's time.
    Cut(Who, To, Mode),
    /// Stops every program with SIGTERM and starts it from another path, one after the other:
    /// workers, the standby, the leader.
    Upgrade,
    /// A shard is split and two are merged while a worker is killed.
    ReshardAndKill,
    /// Random kills, pauses and cuts, one after the other, for the fault's time; the seed selects
    /// them.
    Storm(u64),
    /// Fills the disk of a local run, and empties it after the fault's time.
    FillDisk,
    /// SIGSTOP of the S3 server, with a load from the fake Kinesis that would fill the workers'
    /// memory.
    StopSink,
}

/// The sign that the fault was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The struck worker has no tasks left.
    TasksTaken,
    /// Another controller responds as the leader.
    NewLeader,
    /// No controller responds as the leader.
    NoLeader,
    /// The job reports what it waits for.
    Waits,
    /// There is nothing to notice.
    Nothing,
}

/// The moment from which "running again" counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The rest continues without the struck part.
    Fault,
    /// Nothing can run until it heals.
    Heal,
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub name: &'static str,
    pub strike: Strike,
    pub lasts: Duration,
    pub notice: Notice,
    /// Must be noticed within this time; `None`: no target.
    pub noticed_max: Option<Duration>,
    /// The moment from which running again counts.
    pub from: From,
    /// Must be running again within this time.
    pub again_max: Option<Duration>,
    /// Running tasks must continue unchanged.
    pub keeps_tasks: bool,
    /// The rows of the job go through a function.
    pub has_function: bool,
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Longer than the limits of a worker's silence, of a lease, and of connections without a response.
const SOON: Duration = s(10);
/// Longer than every time-out in the programs, including S3's 30 s for one attempt.
const LONG: Duration = s(35);
const MINUTE: Duration = s(60);
/// How long the sink stalls while records arrive.
const FIVE_MINUTES: Duration = s(300);

// The targets of the design. Where it has none, ours are: a lease, an adoption and two windows for
// a new leader; the longest wait before a retry (5 s), the retry and two windows after an outage.
const NOTICED: Option<Duration> = Some(s(3));
const MOVED: Option<Duration> = Some(s(5));
const LEADS: Option<Duration> = Some(s(6));
const LED: Option<Duration> = Some(s(9));
const BACK: Option<Duration> = Some(s(15));

const fn kill(name: &'static str, who: Who) -> Fault {
    Fault {
        name,
        strike: Strike::Kill(who),
        lasts: SOON,
        notice: Notice::TasksTaken,
        noticed_max: NOTICED,
        from: From::Fault,
        again_max: MOVED,
        keeps_tasks: false,
        has_function: false,
    }
}

const fn outage(name: &'static str, strike: Strike, lasts: Duration) -> Fault {
    let fault = kill(name, Who::Worker);
    Fault {
        strike,
        lasts,
        notice: Notice::Waits,
        noticed_max: None,
        from: From::Heal,
        again_max: BACK,
        ..fault
    }
}

const fn leader(name: &'static str, strike: Strike, lasts: Duration) -> Fault {
    let fault = kill(name, Who::Leader);
    let notice = Notice::NewLeader;
    let noticed_max = LEADS;
    Fault {
        strike,
        lasts,
        notice,
        noticed_max,
        again_max: LED,
        keeps_tasks: true,
        ..fault
    }
}

const fn worker(name: &'static str, strike: Strike, lasts: Duration) -> Fault {
    Fault {
        strike,
        lasts,
        ..kill(name, Who::Worker)
    }
}

const fn harmless(name: &'static str, strike: Strike, lasts: Duration) -> Fault {
    let fault = kill(name, Who::Standby);
    Fault {
        strike,
        lasts,
        notice: Notice::Nothing,
        noticed_max: None,
        keeps_tasks: true,
        ..fault
    }
}

/// Every fault, in execution order.
pub const LIST: &[Fault] = &[
    kill("worker-killed", Who::Worker),
    leader("leader-killed", Strike::Kill(Who::Leader), SOON),
    harmless("standby-killed", Strike::Kill(Who::Standby), SOON),
    Fault {
        from: From::Heal,
        again_max: MOVED,
        ..kill("workers-killed", Who::Workers)
    },
    Fault {
        notice: Notice::NoLeader,
        from: From::Heal,
        again_max: BACK,
        lasts: s(2),
        ..kill("programs-killed", Who::Programs)
    },
    Fault {
        notice: Notice::NoLeader,
        from: From::Heal,
        again_max: BACK,
        lasts: s(2),
        ..kill("everything-killed", Who::ProgramsAndEtcd)
    },
    worker("worker-paused", Strike::Pause(Who::Worker), LONG),
    leader("leader-paused", Strike::Pause(Who::Leader), LONG),
    Fault {
        notice: Notice::NoLeader,
        noticed_max: None,
        from: From::Heal,
        again_max: BACK,
        ..kill("controllers-paused", Who::Worker)
    }
    .with(Strike::Pause(Who::Controllers), SOON),
    worker(
        "worker-controller-cut",
        Strike::Cut(Who::Worker, To::Controllers, Mode::Hole),
        SOON,
    ),
    worker(
        "worker-controller-reset",
        Strike::Cut(Who::Worker, To::Controllers, Mode::Reset),
        SOON,
    ),
    worker(
        "worker-alone",
        Strike::Cut(Who::Worker, To::Everything, Mode::Hole),
        LONG,
    ),
    outage(
        "workers-controller-cut",
        Strike::Cut(Who::Workers, To::Controllers, Mode::Hole),
        SOON,
    ),
    outage(
        "worker-s3-cut",
        Strike::Cut(Who::Worker, To::S3, Mode::Hole),
        SOON,
    ),
    outage(
        "worker-s3-reset",
        Strike::Cut(Who::Worker, To::S3, Mode::Reset),
        SOON,
    ),
    outage(
        "worker-kinesis-cut",
        Strike::Cut(Who::Worker, To::Kinesis, Mode::Hole),
        SOON,
    ),
    outage(
        "worker-kinesis-reset",
        Strike::Cut(Who::Worker, To::Kinesis, Mode::Reset),
        SOON,
    ),
    leader(
        "leader-etcd-cut",
        Strike::Cut(Who::Leader, To::Etcd, Mode::Hole),
        SOON,
    ),
    leader(
        "leader-etcd-reset",
        Strike::Cut(Who::Leader, To::Etcd, Mode::Reset),
        SOON,
    ),
    outage(
        "leader-s3-cut",
        Strike::Cut(Who::Leader, To::S3, Mode::Hole),
        SOON,
    ),
    outage(
        "leader-s3-reset",
        Strike::Cut(Who::Leader, To::S3, Mode::Reset),
        SOON,
    ),
    harmless(
        "leader-kinesis-cut",
        Strike::Cut(Who::Leader, To::Kinesis, Mode::Hole),
        SOON,
    ),
    leader(
        "leader-alone",
        Strike::Cut(Who::Leader, To::Everything, Mode::Hole),
        SOON,
    ),
    harmless(
        "links-slow",
        Strike::Cut(
            Who::Programs,
            To::Everything,
            Mode::Delay(Duration::from_millis(100)),
        ),
        SOON,
    ),
    harmless("etcd-member-lost", Strike::Kill(Who::EtcdLeader), SOON),
    Fault {
        notice: Notice::NoLeader,
        ..outage("etcd-without-quorum", Strike::Kill(Who::EtcdMost), MINUTE)
    },
    outage(
        "s3-refuses",
        Strike::Cut(Who::Programs, To::S3, Mode::Refuse),
        MINUTE,
    ),
    outage(
        "s3-answers-500",
        Strike::Cut(Who::Programs, To::S3, Mode::Error(500)),
        SOON,
    ),
    outage("s3-killed", Strike::Kill(Who::S3), SOON),
    // Another process may do what one process may not.
    worker(
        "worker-refused-by-s3",
        Strike::Cut(Who::Worker, To::S3, Mode::Error(403)),
        SOON,
    ),
    worker(
        "worker-refused-by-kinesis",
        Strike::Cut(Who::Worker, To::Kinesis, Mode::Error(403)),
        SOON,
    ),
    outage(
        "leader-refused-by-s3",
        Strike::Cut(Who::Leader, To::S3, Mode::Error(403)),
        SOON,
    ),
    outage(
        "kinesis-refuses",
        Strike::Cut(Who::Programs, To::Kinesis, Mode::Refuse),
        MINUTE,
    ),
    outage(
        "kinesis-answers-500",
        Strike::Cut(Who::Programs, To::Kinesis, Mode::Error(500)),
        MINUTE,
    ),
    Fault {
        notice: Notice::Nothing,
        noticed_max: None,
        ..kill("reshard-and-worker-killed", Who::Worker)
    }
    .with(Strike::ReshardAndKill, SOON),
    Fault {
        again_max: MOVED,
        ..harmless("upgrade", Strike::Upgrade, s(0))
    }
    .without_tasks_kept(),
    Fault {
        notice: Notice::Nothing,
        ..outage("storm", Strike::Storm(1), MINUTE)
    },
    // A local run has no status for others.
    Fault {
        notice: Notice::Nothing,
        ..outage("disk-full", Strike::FillDisk, SOON)
    },
    outage("sink-stands-still", Strike::StopSink, FIVE_MINUTES),
    kill("function-worker-killed", Who::Worker).of_function(),
    Fault {
        notice: Notice::Nothing,
        noticed_max: None,
        again_max: BACK,
        ..kill("function-process-killed", Who::Worker)
    }
    .with(Strike::KillFunctions, s(0))
    .of_function(),
    leader("function-leader-killed", Strike::Kill(Who::Leader), SOON).of_function(),
    worker("function-worker-paused", Strike::Pause(Who::Worker), LONG).of_function(),
    outage(
        "function-s3-refuses",
        Strike::Cut(Who::Programs, To::S3, Mode::Refuse),
        MINUTE,
    )
    .of_function(),
];

impl Fault {
    const fn with(self, strike: Strike, lasts: Duration) -> Self {
        Self {
            strike,
            lasts,
            ..self
        }
    }

    const fn of_function(self) -> Self {
        Self {
            has_function: true,
            ..self
        }
    }

    const fn without_tasks_kept(self) -> Self {
        Self {
            keeps_tasks: false,
            ..self
        }
    }

    /// A backlog must be worked off at least twice as fast as it arrived.
    pub fn backlog(&self) -> Duration {
        self.lasts / 2
    }

    /// The fault with this name, or the list of names.
    pub fn named(name: &str) -> Result<Self, String> {
        let names = || {
            LIST.iter()
                .map(|fault| fault.name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let found = LIST.iter().find(|fault| fault.name == name).copied();
        found.ok_or_else(|| format!("there is no fault {name:?}; there are: {}", names()))
    }
}

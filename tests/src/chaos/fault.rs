//! The faults, as data.
//!
//! Owns: what is struck, for how long, what must be noticed, and the times that count as good. Does
//! not own: how it is done (`strike`), how it is measured (`run`).
//! Rule: a new fault is a new line here; names are stable, people ask for them (`make chaos
//! ONLY=name`).

use crate::proxy::Mode;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The worker with the most tasks.
    Worker,
    Workers,
    Leader,
    /// The one that does not.
    Standby,
    Controllers,
    Programs,
    /// All our programs, and all members of etcd.
    ProgramsAndEtcd,
    /// One member of etcd: the one that leads it.
    EtcdLeader,
    /// Two of its three members.
    EtcdMost,
    S3,
}

/// A server, or several, that links lead to.
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
    /// `kill -9`; started again after the fault's time.
    Kill(Who),
    /// SIGSTOP, and SIGCONT after the fault's time.
    Pause(Who),
    /// The links of these (or of all our programs) to these servers, healed after the fault's time.
    Cut(Who, To, Mode),
    /// Every program stopped with SIGTERM and started from another path, one after the other:
    /// workers, the standby, the leader.
    Upgrade,
    /// A shard is split and two are merged while a worker is killed.
    ReshardAndKill,
    /// Kills, pauses and cuts of whatever comes, one after the other, for the fault's time; the
    /// seed says which.
    Storm(u64),
    /// A disk of its own is filled under a local run, and emptied after the fault's time.
    FillDisk,
    /// SIGSTOP of the S3 server, with a load from the fake Kinesis that would fill the workers'
    /// memory.
    StopSink,
}

/// What shows that it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The struck worker has no tasks any more.
    TasksTaken,
    /// Another controller answers as the leader.
    NewLeader,
    /// No controller answers as the leader.
    NoLeader,
    /// The job says what it waits for.
    Waits,
    /// There is nothing to notice.
    Nothing,
}

/// From when "running again" counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The rest goes on without what is struck.
    Fault,
    /// Nothing can run without it.
    Heal,
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub name: &'static str,
    pub strike: Strike,
    pub lasts: Duration,
    pub notice: Notice,
    /// Within this time; `None`: no target is set.
    pub noticed_max: Option<Duration>,
    /// From when running again counts.
    pub from: From,
    /// Running again within this time.
    pub again_max: Option<Duration>,
    /// Tasks that run must go on as they are.
    pub keeps_tasks: bool,
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Longer than a worker's silence and a lease may last, and than lines are kept without an answer.
const SOON: Duration = s(10);
/// Longer than every time-out in the programs, S3's 30 s for one try included.
const LONG: Duration = s(35);
const MINUTE: Duration = s(60);
/// The sink stands still for so long while records come.
const FIVE_MINUTES: Duration = s(300);

// The targets of the design; what it does not name has ours: a lease, an adoption and two windows
// after a new leader was needed; the longest wait before a try (5 s), the try and two windows after
// an outage.
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

/// Every fault, in the order in which they are run.
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
    // What one process may not do, another may.
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
    // A local run has no status that others could ask.
    Fault {
        notice: Notice::Nothing,
        ..outage("disk-full", Strike::FillDisk, SOON)
    },
    outage("sink-stands-still", Strike::StopSink, FIVE_MINUTES),
];

impl Fault {
    const fn with(self, strike: Strike, lasts: Duration) -> Self {
        Self {
            strike,
            lasts,
            ..self
        }
    }

    const fn without_tasks_kept(self) -> Self {
        Self {
            keeps_tasks: false,
            ..self
        }
    }

    /// What was not done meanwhile is worked off at least twice as fast as it came.
    pub fn backlog(&self) -> Duration {
        self.lasts / 2
    }

    /// The fault of this name, or the names that there are.
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

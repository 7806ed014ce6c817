//! What was read from an input that cannot be read twice.
//!
//! Owns: the thread that reads, the file that keeps. Does not own: lines.
//! Rule: a byte is kept before it is given, so that a reader that begins again gets the same bytes.
//! The input is read no further ahead than [`BLOCKS_AHEAD_MAX`] blocks.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

/// Most bytes of one read.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Blocks that are read before a reader wants them.
const BLOCKS_AHEAD_MAX: usize = 16;
/// Largest input: all of it is kept in a temporary file while the process runs.
pub const INPUT_BYTES_MAX: u64 = 64 << 30;

/// Wait before an input that has nothing at the moment, and does not block, is read again.
const AGAIN: Duration = Duration::from_millis(20);

/// What comes next of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// Nothing came within the wait.
    Nothing,
    End,
}

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The rest of the input is lost; every later read says the same.
    #[error("the standard input cannot be read: {0}")]
    Input(String),
    /// Nothing is lost: a later read tries again.
    #[error("what was read cannot be kept in {}: {source}", folder.display())]
    Keep { folder: PathBuf, source: io::Error },
}

/// An input, and all that was read of it.
pub struct Spool {
    state: Mutex<State>,
}

struct State {
    kept: File,
    bytes: u64,
    blocks: mpsc::Receiver<io::Result<Vec<u8>>>,
    /// Read, and not kept yet.
    next: Option<Vec<u8>>,
    failed: Option<String>,
}

impl Spool {
    /// Reads `input` on a thread of its own.
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, SpoolError> {
        let kept = tempfile::tempfile().map_err(keep)?;
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD_MAX);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || feed(input, &sender))
            .map_err(|error| SpoolError::Input(error.to_string()))?;
        let state = State {
            kept,
            bytes: 0,
            blocks,
            next: None,
            failed: None,
        };
        Ok(Self {
            state: Mutex::new(state),
        })
    }

    /// The bytes from `offset` on, some of them. Dropped, it loses nothing.
    pub async fn read(&self, offset: u64, wait: Duration) -> Result<Piece, SpoolError> {
        let mut state = self.state.lock().await;
        if offset < state.bytes {
            let left = usize::try_from(state.bytes - offset).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(BLOCK_BYTES_MAX)];
            state.kept.read_exact_at(&mut bytes, offset).map_err(keep)?;
            return Ok(Piece::Bytes(bytes));
        }
        if let Some(error) = &state.failed {
            return Err(SpoolError::Input(error.clone()));
        }
        if state.next.is_none() {
            match timeout(wait, state.blocks.recv()).await {
                Err(_) => return Ok(Piece::Nothing),
                Ok(None) => return Ok(Piece::End),
                Ok(Some(Ok(block))) => state.next = Some(block),
                Ok(Some(Err(error))) => {
                    state.failed = Some(error.to_string());
                    return Err(SpoolError::Input(error.to_string()));
                }
            }
        }
        // It is taken only when it is kept: a write that fails loses nothing.
        let block = state.next.clone().unwrap_or_default();
        if state.bytes + block.len() as u64 > INPUT_BYTES_MAX {
            let message = format!("it has more than {INPUT_BYTES_MAX} bytes");
            state.failed = Some(message.clone());
            return Err(SpoolError::Input(message));
        }
        state.kept.write_all_at(&block, state.bytes).map_err(keep)?;
        state.bytes += block.len() as u64;
        state.next = None;
        Ok(Piece::Bytes(block))
    }
}

fn keep(source: io::Error) -> SpoolError {
    SpoolError::Keep {
        folder: std::env::temp_dir(),
        source,
    }
}

fn feed(mut input: impl Read, blocks: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = vec![0; BLOCK_BYTES_MAX];
        let read = match input.read(&mut block) {
            Ok(0) => return,
            Ok(bytes) => {
                block.truncate(bytes);
                Ok(block)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The other end has made the pipe one that does not block.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if blocks.is_closed() {
                    return;
                }
                std::thread::sleep(AGAIN);
                continue;
            }
            Err(error) => Err(error),
        };
        let is_over = read.is_err();
        if blocks.blocking_send(read).is_err() || is_over {
            return;
        }
    }
}

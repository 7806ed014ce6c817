//! What was read from an input that cannot be read twice.
//!
//! Owns: the thread that reads, the file that keeps. Does not own: lines.
//! Rule: a byte is kept before it is given, so that a reader that begins again gets the same bytes.
//! The input is read no further ahead than [`BLOCKS_AHEAD_MAX`] blocks.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

/// Most bytes of one read.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Blocks that are read before a reader wants them.
const BLOCKS_AHEAD_MAX: usize = 16;
/// Largest input: all of it is kept in a temporary file while the process runs.
pub const INPUT_BYTES_MAX: u64 = 64 << 30;

/// What comes next of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// Nothing came within the wait.
    Nothing,
    End,
}

/// An input, and all that was read of it.
pub struct Spool {
    state: Mutex<State>,
}

struct State {
    kept: File,
    bytes: u64,
    blocks: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl Spool {
    /// Reads `input` on a thread of its own.
    pub fn new(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD_MAX);
        let name = "stdin".to_owned();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || feed(input, &sender))?;
        let kept = tempfile::tempfile()?;
        let state = State {
            kept,
            bytes: 0,
            blocks,
        };
        Ok(Self {
            state: Mutex::new(state),
        })
    }

    /// The bytes from `offset` on, some of them. Dropped, it loses nothing.
    pub async fn read(&self, offset: u64, wait: Duration) -> io::Result<Piece> {
        let mut state = self.state.lock().await;
        if offset < state.bytes {
            let left = usize::try_from(state.bytes - offset).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(BLOCK_BYTES_MAX)];
            state.kept.read_exact_at(&mut bytes, offset)?;
            return Ok(Piece::Bytes(bytes));
        }
        let block = match timeout(wait, state.blocks.recv()).await {
            Err(_) => return Ok(Piece::Nothing),
            Ok(None) => return Ok(Piece::End),
            Ok(Some(block)) => block?,
        };
        if state.bytes + block.len() as u64 > INPUT_BYTES_MAX {
            let message = format!("the input has more than {INPUT_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        state.kept.write_all_at(&block, state.bytes)?;
        state.bytes += block.len() as u64;
        Ok(Piece::Bytes(block))
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
            Err(error) => Err(error),
        };
        let is_over = read.is_err();
        if blocks.blocking_send(read).is_err() || is_over {
            return;
        }
    }
}

//! What is read of a WebSocket while a message is put together, held to the room that there is for it.
//!
//! The library puts messages together by itself, up to a bound; so what it reads is counted below it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use types::Refusal;

use crate::budget::Share;
use crate::limits;
use crate::silence::Silence;

/// How often a message is held at a time: as it was said, as it is read, and as it is said to the other side.
const COPIES: usize = 3;

/// The room for both sides' messages.
pub(crate) struct Room {
    needs: Mutex<Needs>,
    silence: Arc<Silence>,
}

struct Needs {
    share: Share,
    /// Of each side, the bytes since its last whole message, and the most there were: what was made for these stays.
    sides: [(usize, usize); 2],
}

/// Which side speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    /// The program.
    Client,
    /// Whom it speaks to.
    Upstream,
}

/// There is no room for what is said.
#[derive(Debug, thiserror::Error)]
#[error("no room")]
pub(crate) struct Full(pub(crate) Refusal);

impl Room {
    /// In which either side is heard within `silence`.
    pub(crate) fn new(share: Share, silence: Arc<Silence>) -> Arc<Self> {
        Arc::new(Self { needs: Mutex::new(Needs { share, sides: [(0, 0); 2] }), silence })
    }

    /// A message was passed on.
    pub(crate) fn passed(&self, side: Side) {
        self.needs.lock().unwrap_or_else(PoisonError::into_inner).sides[side as usize].0 = 0;
    }

    fn read(&self, side: Side, bytes: usize) -> Result<(), Full> {
        self.silence.broken();
        let mut needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, most) = &mut needs.sides[side as usize];
        *since += bytes;
        *most = (*most).max(*since);
        let longest: usize = needs.sides.iter().map(|(_, most)| most).sum();
        needs.share.try_grow_to(4 * limits::READ_BUFFER + COPIES * longest).map_err(Full)
    }
}

/// One side's bytes.
pub(crate) struct Metered<S> {
    pub(crate) stream: S,
    pub(crate) room: Arc<Room>,
    pub(crate) side: Side,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let read = this.room.read(this.side, buf.filled().len() - before);
        Poll::Ready(read.map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

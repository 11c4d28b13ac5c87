//! What ends an exchange before its time: it may not go on, or whoever asked is gone.
//!
//! An exchange is told to end and not dropped, so that its record says all that is known of it.

use std::future::pending;

use futures_util::future::BoxFuture;
use types::Refusal;

use crate::error::{Failure, SendError};

/// Comes about when an exchange is to end.
pub(crate) struct Cut {
    /// Why it may not go on.
    pub(crate) refused: BoxFuture<'static, Refusal>,
    /// Comes about when whoever asked is gone.
    pub(crate) left: BoxFuture<'static, ()>,
}

impl Cut {
    /// For what its own time ends.
    pub(crate) fn never() -> Self {
        Self { refused: Box::pin(pending()), left: Box::pin(pending()) }
    }

    /// Works until the end, or until it comes about.
    pub(crate) async fn unless<T>(
        &mut self,
        work: impl Future<Output = Result<T, SendError>>,
    ) -> Result<T, SendError> {
        tokio::select! {
            done = work => done,
            error = self.comes() => Err(error),
        }
    }

    /// Why, once it comes about.
    pub(crate) async fn comes(&mut self) -> SendError {
        tokio::select! {
            refusal = &mut self.refused => refusal.into(),
            () = &mut self.left => Failure::Sender.into(),
        }
    }
}

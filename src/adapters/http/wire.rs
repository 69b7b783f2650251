//! The wire of one connection: what it notes beside the bytes.

use super::activity::Activity;
use super::places::Place;
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that counts as used whenever the other side takes something, and keeps its place until it is closed, also after an upgrade.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    activity: Activity,
    _place: Option<Place>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, activity: Activity, place: Option<Place>) -> Self {
        Self { stream, activity, _place: place }
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    fn note(&self, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.seen();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! The residual stream: the current activation and exactly the history that some connection still needs.
//!
//! A block is given [`ResidualStream::read`], and [`ResidualStream::write`] merges what it computed. History means earlier *layers* at the
//! same positions, so incremental decoding needs no cache for it, and at most `k − 1` earlier activations are alive at once (paper table 4).

use std::collections::VecDeque;

use candle_core::{Result, Tensor};

use crate::Residual;

/// Which activations a connection reads besides the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Activations read counting back from the current one, itself included; 0 and 1 both mean no history.
    pub last: usize,
    /// Whether the very first activation is read.
    pub first: bool,
    /// Whether the normed input of *f* is read ([`ResidualStream::observe`]).
    pub normed: bool,
}

impl Needs {
    /// What two connections need together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { last: self.last.max(other.last), first: self.first || other.first, normed: self.normed || other.normed }
    }
}

/// The activations of one forward pass.
#[derive(Debug)]
pub struct ResidualStream {
    current: Tensor,
    /// `earlier[j]` is x_{i-1-j}.
    earlier: VecDeque<Tensor>,
    first: Option<Tensor>,
    normed: Option<Tensor>,
    needs: Needs,
}

impl ResidualStream {
    /// Starts with the embedding's output; `needs` is the union over all connections that will write.
    pub fn start(x: Tensor, needs: Needs) -> Self {
        let first = needs.first.then(|| x.clone());
        Self { current: x, earlier: VecDeque::new(), first, normed: None, needs }
    }

    /// What *f* is given: for LAuReL the current activation. Other schemes would mix here, which is why it can fail.
    pub fn read(&mut self, _site: &Residual) -> Result<Tensor> {
        self.normed = None;
        Ok(self.current.clone())
    }

    /// Tells the stream what *f*'s pre-norm made of its input; kept only if some connection reads it.
    pub fn observe(&mut self, normed: &Tensor) {
        if self.needs.normed {
            self.normed = Some(normed.clone());
        }
    }

    /// Merges *f*'s output and moves on: the current activation becomes history.
    pub fn write(&mut self, site: &Residual, fx: &Tensor) -> Result<()> {
        self.advance(site.merge(fx, None, self)?);
        Ok(())
    }

    /// [`Self::write`] of `fx + fx2`, which is not formed in memory where the fused operations serve.
    pub fn write_sum(&mut self, site: &Residual, fx: &Tensor, fx2: &Tensor) -> Result<()> {
        self.advance(site.merge(fx, Some(fx2), self)?);
        Ok(())
    }

    /// Moves on to `next`, where something stands behind the merge (a ResNet's ReLU): the current activation becomes history.
    pub fn advance(&mut self, next: Tensor) {
        let previous = std::mem::replace(&mut self.current, next);
        self.normed = None;
        if self.needs.last > 1 {
            self.earlier.push_front(previous);
            self.earlier.truncate(self.needs.last - 1);
        }
    }

    /// What the head is given.
    pub fn finish(self) -> Result<Tensor> {
        Ok(self.current)
    }

    /// Goes on from `x`, whose shape differs (a ResNet stage): history is dropped.
    pub fn restart(&mut self, x: Tensor) {
        *self = Self::start(x, self.needs);
    }

    /// x_i.
    pub fn current(&self) -> &Tensor {
        &self.current
    }

    /// x_{i-j}, or `None` near the input (or when nobody declared the need).
    pub fn lag(&self, j: usize) -> Option<&Tensor> {
        if j == 0 { Some(&self.current) } else { self.earlier.get(j - 1) }
    }

    /// The oldest activation still held; the current one when there is no history.
    pub fn oldest(&self) -> &Tensor {
        self.earlier.back().unwrap_or(&self.current)
    }

    /// x_0, when declared in the needs.
    pub fn first(&self) -> Option<&Tensor> {
        self.first.as_ref()
    }

    /// The normed input of the block that is running, when declared and observed.
    pub fn normed(&self) -> Option<&Tensor> {
        self.normed.as_ref()
    }

    /// Earlier activations held right now.
    pub fn history_len(&self) -> usize {
        self.earlier.len()
    }
}

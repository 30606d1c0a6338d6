//! Bytes that several tensors share.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Who owns bytes: memory of our own, or a mapped file.
#[doc(hidden)]
pub trait Memory: Send + Sync {
    /// All of them.
    #[doc(hidden)]
    fn bytes(&self) -> &[u8];

    /// That somebody is about to read a part as long as this, so that what was read before it may leave memory.
    #[doc(hidden)]
    fn expect_read(&self, _part: &Range<usize>) {}
}

impl<T: AsRef<[u8]> + Send + Sync> Memory for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

/// Bytes with a shared owner.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn Memory>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`, which is anything that has some, such as a `Vec<u8>`.
    pub fn new(owner: Arc<dyn Memory>) -> Bytes {
        let range = 0..owner.bytes().len();
        Bytes { owner, range }
    }

    /// How many bytes these are.
    #[doc(hidden)]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    #[doc(hidden)]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// A part of these bytes, sharing their owner; `None` when it does not lie within them.
    #[doc(hidden)]
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        let (start, end) = (
            self.range.start.checked_add(range.start)?,
            self.range.start.checked_add(range.end)?,
        );
        (start <= end && end <= self.range.end).then(|| Bytes {
            owner: self.owner.clone(),
            range: start..end,
        })
    }

    /// Tells the owner that all of these are about to be read.
    #[doc(hidden)]
    pub fn expect_read(&self) {
        self.owner.expect_read(&self.range);
    }

    /// Which memory this is: the owner's identity, and the stretch of it.
    pub(super) fn place(&self) -> (usize, Range<usize>) {
        let owner = Arc::as_ptr(&self.owner).cast::<()>();
        (owner as usize, self.range.clone())
    }

    /// Whether both are the same stretch of the same owner's memory.
    #[doc(hidden)]
    pub fn same_memory(&self, other: &Bytes) -> bool {
        self.place() == other.place()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.range.len())
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.owner.bytes()[self.range.clone()]
    }
}

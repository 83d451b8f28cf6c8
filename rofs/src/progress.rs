//! How far long work is.

/// Whoever is told how far long work is.
pub trait Progress {
    /// A stage begins. `total` is how many bytes it will work on, where that is known.
    fn stage(&self, name: &str, total: Option<u64>);
    /// So many bytes are done.
    fn advance(&self, bytes: u64);
    /// Something was left out of the image, and the work goes on.
    fn warn(&self, message: &str);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _name: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, _message: &str) {}
}

//! What a message says, by language.

/// Templates by locale, checked when they were compiled.
#[derive(Clone, Debug)]
pub struct Templates(());

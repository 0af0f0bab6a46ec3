//! What a pair must do with its virtual address, whatever happens to it.

pub mod observed;

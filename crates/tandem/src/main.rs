//! (being written)
mod config;
fn main() {}

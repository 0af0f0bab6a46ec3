//! Records of calls on a database server: one row for each call, whoever writes it and how often it is tried.
//!
//! The files of records are the queue, and a thread of its own empties it in batches. A batch is one transaction. It looks
//! which ids are in Tandem's own table, `tandem_cdr`, and writes those that are not; what was new there also becomes a row
//! of `acc` or `missed_calls`, which have no key that could tell a row that comes twice. Of two nodes that write one call
//! at once the id lets one succeed; the other one tries again and finds it there.
//!
//! There is no epoch in it: a record is owed by who has its line, also when another node is active.

mod batch;
pub mod field;
pub mod inspect;
pub mod shape;
pub mod writer;

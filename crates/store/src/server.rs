//! A database server that other programs use too: PostgreSQL, MySQL, MariaDB.
//!
//! Nothing of SIP waits for it but the first look-up of an account; bindings are written behind ([`location`]). A [`Link`](link::Link) is one connection and the
//! only place that knows which of the products is at the other end; a [`Session`](session::Session) is a link with
//! what was recognised in the database, and what any of its statements may take in time. A link whose statement failed
//! or ran out of its time is dropped, which closes its socket and waits for nobody.
//!
//! Accounts that were used are [copied](copies::AccountCopies) to the node's own file, which serves while the server is
//! away, and are [compared](comparison) with the server again and again.

pub mod accounts;
pub mod address;
pub mod comparison;
pub mod copies;
pub mod destinations;
pub mod elsewhere;
pub mod epoch;
pub mod fault;
pub mod inspect;
pub mod lease_row;
pub mod link;
pub mod lists;
pub mod location;
pub mod lookups;
pub mod records;
pub mod schema;
pub mod session;
pub mod shortcomings;
pub mod store;
pub mod subscribers;
pub mod tables;

//! The last minutes: history for charts, top requests, rates, and finished requests.

pub mod finished_request;
pub mod history;
pub mod rate;
pub mod top_requests;

//! The D-Bus interface of venvd, as both of its sides see it: names, the proxy, and the report of a job; and how its
//! records in the journal are found.
//!
//! How a client runs a job to its end: subscribe to [`ManagerProxy::receive_job_removed`], then call a method, which
//! returns the job's path at once ([`job_id`] is its number), wait for `JobRemoved` with that number, and ask
//! [`ManagerProxy::get_job`] for the [`JobReport`]. A job that ended before is still answered from venvd's journal.

pub mod event;
pub mod job;
mod manager;
pub mod plan;

pub use job::{AppChange, Cause, Check, CheckStage, Code, JobReport, Kind, Leftover, Outcome, Stage, UnitReport};
pub use manager::{APP_INTERFACE, BUS_NAME, INTERFACE, JOB_INTERFACE, JOBS_PATH, MANAGER_PATH};
pub use manager::{JobRemovedArgs, JobRemovedStream, ManagerProxy};
pub use manager::{app_path, job_id, job_path};

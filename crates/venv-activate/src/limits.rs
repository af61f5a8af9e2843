//! The limits of a unit, on this process and so on the command.

use nix::errno::Errno;
use nix::sys::resource::{self, getrlimit, setrlimit};
use venvd_unit::limit::{Limit, Resource};

use crate::error::Error;

/// How far limits could be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Wholly,
    Partly,
}

/// Sets limits, as near to what is asked for as this process may (`setrlimit_closest()`).
pub(crate) fn set(limits: &[(Resource, Limit)]) -> Result<Reached, Error> {
    let mut reached = Reached::Wholly;
    for (resource, limit) in limits {
        let failed = |source| Error::Limit {
            resource: resource.name(),
            source,
        };
        let kernels = of_kernel(*resource);
        match setrlimit(kernels, limit.soft, limit.hard) {
            Err(Errno::EPERM) => {
                let (_, most) = getrlimit(kernels).map_err(failed)?;
                setrlimit(kernels, limit.soft.min(most), limit.hard.min(most)).map_err(failed)?;
                reached = Reached::Partly;
            }
            result => result.map_err(failed)?,
        }
    }
    Ok(reached)
}

fn of_kernel(resource: Resource) -> resource::Resource {
    match resource {
        Resource::Cpu => resource::Resource::RLIMIT_CPU,
        Resource::FileSize => resource::Resource::RLIMIT_FSIZE,
        Resource::Data => resource::Resource::RLIMIT_DATA,
        Resource::Stack => resource::Resource::RLIMIT_STACK,
        Resource::Core => resource::Resource::RLIMIT_CORE,
        Resource::ResidentSet => resource::Resource::RLIMIT_RSS,
        Resource::OpenFiles => resource::Resource::RLIMIT_NOFILE,
        Resource::AddressSpace => resource::Resource::RLIMIT_AS,
        Resource::Processes => resource::Resource::RLIMIT_NPROC,
        Resource::LockedMemory => resource::Resource::RLIMIT_MEMLOCK,
        Resource::FileLocks => resource::Resource::RLIMIT_LOCKS,
        Resource::PendingSignals => resource::Resource::RLIMIT_SIGPENDING,
        Resource::MessageQueues => resource::Resource::RLIMIT_MSGQUEUE,
        Resource::Nice => resource::Resource::RLIMIT_NICE,
        Resource::RealtimePriority => resource::Resource::RLIMIT_RTPRIO,
        Resource::RealtimeTime => resource::Resource::RLIMIT_RTTIME,
    }
}

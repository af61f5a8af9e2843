# The first process of a machine's own pid and mount namespaces: what it mounts and starts can't outlive it.
#   sh launcher.sh DIR ROOT NSPAWN-ARGUMENT...
# Standard input is the life line. A line on it: stop at once, as if the power failed. Its end: the test is gone
# (ended, panicked, killed), so stop and remove DIR too. Exit status: nspawn's (133 is "reboot", see
# RestartForceExitStatus=133 in systemd-nspawn@.service), 137 after a stop.
set -eu
dir=$1 lower=$2
shift 2
# Only in this namespace: systemd gets a pure version 2 hierarchy whatever the host has, since with version 1 it is
# not told of empty groups in a container; and the machine a group of its own, below the one that we are in.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=$(sed -n 's/^0:://p' /proc/self/cgroup)
group=/sys/fs/cgroup${group%/}/venvd-${dir##*/}
mkdir -p "$group"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$dir/root" || {
    echo "VENVD_CACHE must be on a file system that can be the upper one of an overlay: ext4, xfs, btrfs or tmpfs" >&2
    exit 32
}

exec 3<&0 </dev/null
(
    read -r _ <&3 || : >"$dir/abandoned"
    kill -KILL -1
) &

# No seccomp: an older nspawn refuses system calls that a newer guest's C library uses, with an error it does not expect.
status=0
(
    echo 0 >"$group/cgroup.procs"
    exec 3<&-
    SYSTEMD_SECCOMP=0 exec systemd-nspawn --quiet --directory="$dir/root" --register=no --keep-unit \
        --private-network --resolv-conf=off --timezone=off --link-journal=no --settings=no --console=pipe --boot "$@"
) || status=$?

kill -KILL -1 2>/dev/null || :
tries=0
until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || [ $tries -ge 50 ]; do
    tries=$((tries + 1))
    sleep 0.02
done
if [ -e "$dir/abandoned" ]; then
    umount -l "$dir/root"
    rm -rf --one-file-system "$dir"
fi
exit $status

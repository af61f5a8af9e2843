# A small host of its own for one command: $1 is its root, made by the test; the rest is the command.
# The programs come from the real host, read-only; everything is gone with this mount namespace.
set -eu
root=$1
shift
mount --bind "$root" "$root"
for name in usr bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then
        ln -sfn "$(readlink "/$name")" "$root/$name"
    elif [ -d "/$name" ]; then
        mkdir -p "$root/$name"
        mount --rbind -o ro "/$name" "$root/$name"
    fi
done
mkdir -p "$root/proc" "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"

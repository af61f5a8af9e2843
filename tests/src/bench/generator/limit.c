/* What a generator can't be faster than: reads nothing, decides nothing, and writes files that it has in itself.
 *   limit DIRECTORY
 * FILES names what the assembler puts into it: for each directory its path with a slash at its end and a NUL, for each
 * file its path, NUL, its length in digits, NUL, and its bytes. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

__asm__(".section .rodata\n"
        "files: .incbin \"" FILES "\"\n"
        "files_end:\n"
        ".text\n");
extern const char files[], files_end[];

int main(int argc, char **argv) {
    if (argc != 2 || chdir(argv[1]) != 0)
        return 1;
    const char *at = files;
    while (at < files_end) {
        const char *path = at;
        size_t length = strlen(path);
        at += length + 1;
        if (path[length - 1] == '/') {
            if (mkdir(path, 0755) != 0)
                return 1;
            continue;
        }
        char *after;
        size_t size = strtoul(at, &after, 10);
        at = after + 1;
        int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (file < 0 || write(file, at, size) != (ssize_t)size || close(file) != 0)
            return 1;
        at += size;
    }
    return 0;
}

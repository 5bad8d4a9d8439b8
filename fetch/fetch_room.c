/* Two limits: what the content is for, and the disk. */
#include "fetch/fetch_room.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/fault.h"

enum bnt_status fetch_room_memory(const struct bnt_fetch_opts *opts, const char *shown,
                                  uint64_t size, struct bnt_err *err)
{
    if (opts->max_bytes == 0 || size <= opts->max_bytes || BNT_FAULT(target_size)) {
        return BNT_OK;
    }
    enum bnt_status st =
        bnt_err_set(err, BNT_E_MEMORY, "%.300s has %.1f MB or more, and wasm32 can hold %.1f MB",
                    shown, (double)size / 1e6, (double)opts->max_bytes / 1e6);
    bnt_err_hint(err, "take a smaller model, or one that is quantised further");
    return st;
}

enum bnt_status fetch_room(const struct bnt_fetch_opts *opts, int fd, const char *shown,
                           uint64_t size, struct bnt_err *err)
{
    struct statvfs disk;
    struct stat sb;
    enum bnt_status st = fetch_room_memory(opts, shown, size, err);
    if (st != BNT_OK || size == 0 || fstatvfs(fd, &disk) != 0 || fstat(fd, &sb) != 0) {
        return st; /* the write itself will tell */
    }
    const double there = (double)sb.st_blocks * 512;
    const double room = (double)disk.f_bavail * (double)disk.f_frsize;
    if ((double)size - there <= room) {
        return BNT_OK;
    }
    st = bnt_err_set(err, BNT_E_NO_SPACE,
                     "%.300s needs %.1f MB, and the disk of the cache has %.1f MB left", shown,
                     (double)size / 1e6, room / 1e6);
    bnt_err_hint(err, "free some space, for example with: bnt cache gc; or set BNT_CACHE_DIR to "
                      "another disk");
    return st;
}

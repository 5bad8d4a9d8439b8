/* Removing folders. See remove_tree.h. */
#include "testkit/remove_tree.h"

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

enum { OPEN_MAX_FOLDERS = 16 };

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *where)
{
    (void)st;
    (void)flag;
    (void)where;
    (void)remove(path);
    return 0;
}

static int open_up(const char *path, const struct stat *st, int flag, struct FTW *where)
{
    (void)st;
    (void)where;
    if (flag == FTW_D || flag == FTW_DNR) {
        (void)chmod(path, 0700);
    }
    return 0;
}

/* Folders without write permission are opened first, each before what is in it. */
void remove_tree(const char *path)
{
    (void)nftw(path, open_up, OPEN_MAX_FOLDERS, FTW_PHYS);
    (void)nftw(path, remove_entry, OPEN_MAX_FOLDERS, FTW_PHYS | FTW_DEPTH);
}

/* How SQLite reaches the disk: its own way, with two guards around it. guard_vfs.c says which. */
#ifndef BNT_CACHE_GUARD_VFS_H
#define BNT_CACHE_GUARD_VFS_H

/* The name for sqlite3_open_v2; NULL, SQLite's own way, when it cannot be had. */
const char *guard_vfs(void);

#endif

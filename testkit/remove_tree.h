/* A folder with all below it, whatever its permissions. */
#ifndef TESTKIT_REMOVE_TREE_H
#define TESTKIT_REMOVE_TREE_H

/* What cannot be removed stays. Symbolic links are not followed. */
void remove_tree(const char *path);

#endif

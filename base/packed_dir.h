/* Names of the files in which the engine keeps forms of weights that it made (engine/packed.h),
 * and which `bnt cache` counts and removes:
 *
 *     <cache>/packed/<sha256 of the model>/<layout>.<version>.pack   a form
 *                                          <layout>.<version>.used   its mtime: the last use
 *                                          lock                      held by who makes a form
 *     <cache>/packed/<layout>.<version>.pack.XXXXXX.tmp              a form that is being made
 *                    lock        a part of it for each model's file of which forms are made
 *
 * All of it can be made again from the model at any time. */
#ifndef BNT_PACKED_DIR_H
#define BNT_PACKED_DIR_H

#define BNT_PACKED_FOLDER "packed" /* below the cache's folder */
#define BNT_PACKED_SUFFIX ".pack"
#define BNT_PACKED_USED_SUFFIX ".used"
#define BNT_PACKED_LOCK "lock"
#define BNT_PACKED_USE_STEP_S 3600 /* a use is noted when the last note is older */

#endif

#ifndef CLINUX_MOUNT_H
#define CLINUX_MOUNT_H

#endif

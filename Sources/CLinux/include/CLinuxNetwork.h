#ifndef CLINUX_NETWORK_H
#define CLINUX_NETWORK_H

#endif

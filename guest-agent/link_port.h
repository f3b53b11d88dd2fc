/* guest-agent/link_port.h - the link to the host that needs no network: a virtio-serial port.
 *
 * Theory of operation: the port is found by its name in sysfs, since its number depends on the machine. While
 * it is missing (a VM whose device is plugged later), the kernel's uevents wake us, and a slow timer in case
 * they cannot be heard; once it is open, neither exists. "unix:PATH" stands for a port in tests and in
 * containers: a stream socket that is connected to, again and again while it is missing. */
#pragma once

#include "guest-agent/config.h"
#include "guest-agent/peers.h"

#define LINK_PORT_NAME "org.moult.agent.0"

typedef struct LinkPort LinkPort;

/* @established: what the host says in its hello over this link. */
LinkPort *link_port_new(const struct agent_config *config, Peers *peers,
                        void (*established)(const Moult__Hello *hello, gpointer user), gpointer user);
void link_port_free(LinkPort *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LinkPort, link_port_free)

/* The device of the port with this name, or NULL. */
char *link_port_find(const char *sysfs_dir, const char *dev_dir, const char *name);

/* Opening the server's port: a socket for each address of the host. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "axon/gate.h"
#include "wire/peer.h"

enum { BACKLOG = 1024, PORT_TRIES = 8 };

static void set_port(struct sockaddr *address, int port)
{
    in_port_t number = htons((uint16_t)port);
    if (address->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = number;
    else
        ((struct sockaddr_in *)(void *)address)->sin_port = number;
}

static int port_of(int fd)
{
    struct sockaddr_in6 bound; /* the port is at the same place in both */
    socklen_t size = sizeof bound;
    return getsockname(fd, (struct sockaddr *)(void *)&bound, &size) == 0 ? ntohs(bound.sin6_port) : 0;
}

/* No SO_REUSEPORT: two processes would share a port without noticing. The errno, or 0. */
static int open_socket(const struct sockaddr *address, socklen_t size, int *out)
{
    int yes = 1, no = 0, fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* connections inherit it */
    if (address->sa_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(fd, address, size) == 0 && listen(fd, BACKLOG) == 0) {
        *out = fd;
        return 0;
    }
    int failure = errno;
    close(fd);
    return failure;
}

static bool is_any_ipv4(const struct sockaddr *address)
{
    return address->sa_family == AF_INET &&
           ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr == INADDR_ANY;
}

/* 0.0.0.0 is every address of either family where there are two, as it is with gRPC. */
static int open_address(struct sockaddr *address, socklen_t size, int port, int *out)
{
    if (is_any_ipv4(address)) {
        struct sockaddr_in6 any = {
            .sin6_family = AF_INET6, .sin6_addr = in6addr_any, .sin6_port = htons((uint16_t)port)};
        int failure = open_socket((struct sockaddr *)(void *)&any, sizeof any, out);
        if (failure == 0 || failure == EADDRINUSE) return failure;
    }
    set_port(address, port);
    return open_socket(address, size, out);
}

/* A name's addresses of a family that this machine doesn't have are left out; any other failure is one. */
static int open_all(const struct addrinfo *found, int *port, int sockets[LISTEN_MOST], int *count)
{
    int failure = EADDRNOTAVAIL;
    *count = 0;
    for (const struct addrinfo *at = found; at && *count < LISTEN_MOST; at = at->ai_next) {
        int this = open_address(at->ai_addr, at->ai_addrlen, *port, &sockets[*count]);
        if (this == 0) {
            if (*port == 0) *port = port_of(sockets[*count]);
            ++*count;
        } else if (this != EAFNOSUPPORT && this != EADDRNOTAVAIL) {
            failure = this;
            while (*count > 0)
                close(sockets[--*count]);
            return failure;
        }
    }
    return *count ? 0 : failure;
}

Status listen_at(const char *host, int *port, int sockets[LISTEN_MOST], int *count, Error *error)
{
    char address[PEER_ADDRESS_SIZE + 8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    snprintf(address, sizeof address, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, *port);
    int failure = getaddrinfo(host, NULL, &hints, &found);
    if (failure)
        return error_set(error, STATUS_INVALID_ARGUMENT, "cannot listen on %s: %s", address, gai_strerror(failure));
    int wanted = *port, tries = wanted == 0 ? PORT_TRIES : 1; /* a free port may be taken at the second address */
    do {
        *port = wanted;
        failure = open_all(found, port, sockets, count);
    } while (failure == EADDRINUSE && --tries > 0);
    freeaddrinfo(found);
    return failure ? error_set_errno(error, failure, "cannot listen on %s", address) : STATUS_OK;
}

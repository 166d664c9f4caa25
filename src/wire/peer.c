#include "wire/peer.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOST_LENGTH = 253 }; /* the longest name DNS has */

/* --- keys --- */

/* The length of the UTF-8 character at `at`, 0 when it is none (RFC 3629: no surrogates, nothing overlong). */
static size_t utf8_length(const uint8_t *at, size_t left)
{
    uint8_t first = at[0];
    if (first < 0x80) return 1;
    size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                    : first >= 0xe0 && first <= 0xef ? 3
                    : first >= 0xf0 && first <= 0xf4 ? 4
                                                     : 0;
    if (length == 0 || length > left) return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f) || (first == 0xf0 && at[1] < 0x90) ||
        (first == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

/* C0, DEL, and C1 (which UTF-8 writes as c2 80 .. c2 9f). */
static bool is_control(const uint8_t *at)
{
    return at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && at[1] < 0xa0);
}

Status key_check(const char *what, const char *bytes, size_t length, Error *error)
{
    if (length == 0 || length >= KEY_SIZE)
        return error_set(error, STATUS_INVALID_ARGUMENT, "%s has %zu bytes, expected 1 to %d", what, length,
                         KEY_SIZE - 1);
    const uint8_t *at = (const uint8_t *)bytes;
    for (size_t i = 0; i < length;) {
        size_t step = utf8_length(at + i, length - i);
        if (step == 0 || is_control(at + i))
            return error_set(error, STATUS_INVALID_ARGUMENT,
                             "byte %zu of %s is 0x%02x, expected UTF-8 without control characters", i, what, at[i]);
        i += step;
    }
    return STATUS_OK;
}

/* --- addresses --- */

static Status check_host(const char *text, const char *host, bool bracketed, Error *error)
{
    if (*host == '\0') return error_set(error, STATUS_INVALID_ARGUMENT, "'%s' has no host, expected HOST:PORT", text);
    if (bracketed) {
        struct in6_addr address;
        if (inet_pton(AF_INET6, host, &address) == 1) return STATUS_OK;
        return error_set(error, STATUS_INVALID_ARGUMENT, "'%s' in '%s' is not an IPv6 address", host, text);
    }
    if (strchr(host, ':'))
        return error_set(error, STATUS_INVALID_ARGUMENT, "'%s' has several colons, expected HOST:PORT or [IPv6]:PORT",
                         text);
    for (const char *c = host; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr(".-_", *c))
            return error_set(error, STATUS_INVALID_ARGUMENT, "host '%s' has the character '%c', which no host name has",
                             host, *c);
    return STATUS_OK;
}

static Status parse_port(const char *text, const char *digits, int least, int *port, Error *error)
{
    size_t length = strlen(digits);
    long value = -1;
    if (length >= 1 && length <= 5 && strspn(digits, "0123456789") == length) value = strtol(digits, NULL, 10);
    if (value < least || value > 65535)
        return error_set(error, STATUS_INVALID_ARGUMENT, "port '%s' in '%s' is not a number from %d to 65535", digits,
                         text, least);
    *port = (int)value;
    return STATUS_OK;
}

/* Splits "HOST:PORT" or "[v6]:PORT"; the host comes without brackets. */
static Status parse_address(const char *text, int least_port, char host[PEER_ADDRESS_SIZE], int *port, bool *bracketed,
                            Error *error)
{
    const char *begin = text, *end, *colon;
    *bracketed = *text == '[';
    if (*bracketed) {
        begin++;
        end = strchr(begin, ']');
        if (!end || end[1] != ':')
            return error_set(error, STATUS_INVALID_ARGUMENT, "'%s' begins with '[', expected [IPv6]:PORT", text);
        colon = end + 1;
    } else {
        end = colon = strrchr(text, ':');
        if (!end) return error_set(error, STATUS_INVALID_ARGUMENT, "'%s' has no port, expected HOST:PORT", text);
    }
    size_t length = (size_t)(end - begin);
    if (length > HOST_LENGTH)
        return error_set(error, STATUS_INVALID_ARGUMENT, "host in '%.40s...' has %zu characters, expected at most %d",
                         text, length, HOST_LENGTH);
    memcpy(host, begin, length);
    host[length] = '\0';
    RETURN_IF_ERROR(check_host(text, host, *bracketed, error));
    return parse_port(text, colon + 1, least_port, port, error);
}

Status address_parse(const char *text, char host[PEER_ADDRESS_SIZE], int *port, Error *error)
{
    bool bracketed;
    return parse_address(text, 0, host, port, &bracketed, error);
}

static Status parse_peer(const char *text, size_t length, Peer *out, Error *error)
{
    char address[PEER_ADDRESS_SIZE], host[PEER_ADDRESS_SIZE];
    const char *slash = memchr(text, '/', length);
    size_t address_length = slash ? (size_t)(slash - text) : length;
    if (address_length >= sizeof address)
        return error_set(error, STATUS_INVALID_ARGUMENT, "address '%.40s...' has %zu characters, expected at most %zu",
                         text, address_length, sizeof address - 1);
    memcpy(address, text, address_length);
    address[address_length] = '\0';
    int port;
    bool bracketed;
    RETURN_IF_ERROR(parse_address(address, 1, host, &port, &bracketed, error));
    snprintf(out->address, sizeof out->address, bracketed ? "[%.253s]:%d" : "%.253s:%d", host, port);
    out->synapse_key[0] = '\0';
    if (!slash) return STATUS_OK;
    size_t key_length = length - address_length - 1;
    RETURN_IF_ERROR(key_check("synapse key", slash + 1, key_length, error));
    memcpy(out->synapse_key, slash + 1, key_length);
    out->synapse_key[key_length] = '\0';
    return STATUS_OK;
}

Status peer_parse(const char *text, Peer *out, Error *error)
{
    return parse_peer(text, strlen(text), out, error);
}

Status peer_parse_list(const char *text, Peer **out, size_t *count, Error *error)
{
    *out = NULL;
    *count = 0;
    if (!text || !*text) return STATUS_OK;
    size_t entries = 1;
    for (const char *c = text; *c; c++)
        entries += *c == ',';
    Peer *peers = calloc(entries, sizeof *peers);
    if (!peers) return error_set_errno(error, ENOMEM, "a list of %zu peers", entries);
    for (size_t i = 0; i < entries; i++) {
        size_t length = strcspn(text, ",");
        if (parse_peer(text, length, &peers[i], error) != STATUS_OK) {
            free(peers);
            return error_prefix(error, "peer %zu of %zu", i + 1, entries);
        }
        text += length + 1;
    }
    *out = peers;
    *count = entries;
    return STATUS_OK;
}

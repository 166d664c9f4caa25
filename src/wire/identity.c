#include "wire/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

_Static_assert(crypto_sign_PUBLICKEYBYTES == 32 && crypto_sign_SECRETKEYBYTES == 64 && crypto_sign_SEEDBYTES == 32,
               "sizes of an ed25519 key pair");

enum { SEED_SIZE = 32, FILE_SIZE = 2 * SEED_SIZE + 1 };

/* sodium_init may be called any number of times, by any thread. */
static Status start_sodium(Error *error)
{
    if (sodium_init() < 0) return error_set(error, STATUS_INTERNAL, "libsodium found no source of random numbers");
    return STATUS_OK;
}

static void key_text(const uint8_t key[32], char out[KEY_TEXT_SIZE])
{
    memcpy(out, "0x", 2);
    sodium_bin2hex(out + 2, KEY_TEXT_SIZE - 2, key, 32);
}

Status identity_from_seed(const uint8_t seed[32], Identity *out, Error *error)
{
    RETURN_IF_ERROR(start_sodium(error));
    crypto_sign_seed_keypair(out->public_key, out->secret_key, seed);
    key_text(out->public_key, out->text);
    return STATUS_OK;
}

Status identity_create(Identity *out, Error *error)
{
    uint8_t seed[SEED_SIZE];
    RETURN_IF_ERROR(start_sodium(error));
    randombytes_buf(seed, sizeof seed);
    Status status = identity_from_seed(seed, out, error);
    sodium_memzero(seed, sizeof seed);
    return status;
}

static Status check_private(const char *path, Error *error)
{
    struct stat about;
    if (stat(path, &about) != 0) return error_set_errno(error, errno, "cannot examine key file %s", path);
    if (about.st_mode & 077)
        return error_set(error, STATUS_INVALID_ARGUMENT,
                         "key file %s has mode %03o, so that others can use the key; expected 600: chmod 600 %s", path,
                         (unsigned)about.st_mode & 0777, path);
    return STATUS_OK;
}

Status identity_load(const char *path, Identity *out, Error *error)
{
    char *text;
    size_t size, bytes = 0;
    uint8_t seed[SEED_SIZE];
    RETURN_IF_ERROR(check_private(path, error));
    RETURN_IF_ERROR(file_read(path, 4096, &text, &size, error));
    if (size && text[size - 1] == '\n') size--;
    bool whole = size == 2 * SEED_SIZE && sodium_hex2bin(seed, sizeof seed, text, size, NULL, &bytes, NULL) == 0 &&
                 bytes == SEED_SIZE;
    Status status = whole ? identity_from_seed(seed, out, error)
                          : error_set(error, STATUS_INVALID_ARGUMENT,
                                      "%s is not a key file: expected 64 hex digits and a newline", path);
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(text, size);
    free(text);
    return status;
}

static Status write_new_file(const char *path, const char *text, size_t size, Error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return error_set_errno(error, errno, "cannot create %s", path);
    ssize_t written = write(fd, text, size);
    int failure = written < 0 ? errno : (size_t)written < size ? ENOSPC : fsync(fd) != 0 ? errno : 0;
    close(fd);
    if (failure == 0) return STATUS_OK;
    unlink(path);
    return error_set_errno(error, failure, "cannot write %s", path);
}

/* Not by file_replace: the file must never have another mode than 0600, and must not replace a key. link() does both in
 * one step: it fails if the name is taken, and the name appears with the file whole. */
Status identity_save(const Identity *identity, const char *path, Error *error)
{
    char temporary[4096], text[FILE_SIZE + 1];
    if (snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)getpid()) >= (int)sizeof temporary)
        return error_set(error, STATUS_OUT_OF_RANGE, "path of the key file has more than %zu characters",
                         sizeof temporary - 1);
    RETURN_IF_ERROR(start_sodium(error));
    sodium_bin2hex(text, sizeof text, identity->secret_key, SEED_SIZE);
    text[FILE_SIZE - 1] = '\n';
    Status status = write_new_file(temporary, text, FILE_SIZE, error);
    sodium_memzero(text, sizeof text);
    RETURN_IF_ERROR(status);
    if (link(temporary, path) != 0)
        status = errno == EEXIST ? error_set(error, STATUS_ALREADY_EXISTS,
                                             "key file %s exists, and a key is not replaced; move it away first", path)
                                 : error_set_errno(error, errno, "cannot create key file %s", path);
    unlink(temporary);
    return status;
}

Status identity_synapse_key(const Identity *identity, const char *soma, char out[KEY_TEXT_SIZE], Error *error)
{
    uint8_t hash[32];
    crypto_generichash_state state;
    RETURN_IF_ERROR(start_sodium(error));
    crypto_generichash_init(&state, NULL, 0, sizeof hash);
    crypto_generichash_update(&state, identity->public_key, sizeof identity->public_key);
    crypto_generichash_update(&state, (const uint8_t *)soma, strlen(soma));
    crypto_generichash_final(&state, hash, sizeof hash);
    key_text(hash, out);
    return STATUS_OK;
}

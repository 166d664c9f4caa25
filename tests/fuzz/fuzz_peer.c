/* Addresses (wire/peer.h): a peer, a list of peers, and where to listen. */
#include <string.h>

#include "fuzz/fuzz.h"

void fuzz_seeds(FuzzSeeds *seeds)
{
    static const char *const texts[] = {
        "127.0.0.1:8091",
        "[::1]:8091/0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "host-1.example.org:1/key,[fe80::1]:65535,b_c:00080/k/k",
        "[::ffff:10.0.0.1]:0",
        "::1:80",
        "[::1]80",
        ":80",
        "a:65536",
        "a:1,,b:2",
        "a:1/\xc3\xbc",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        fuzz_seed(seeds, texts[i], strlen(texts[i]));
}

static void require_sentence(Status status, const Error *error)
{
    REQUIRE(status == STATUS_INVALID_ARGUMENT && error->status == status);
    REQUIRE(error->message[0] && memchr(error->message, 0, sizeof error->message) && !strchr(error->message, '\n'));
}

/* What was accepted is in its final form: it reads as the same again, also in the form gRPC is given. */
static void require_stable(const Peer *peer)
{
    char text[PEER_ADDRESS_SIZE + KEY_SIZE], host[PEER_ADDRESS_SIZE];
    int port;
    Peer again;
    Error error;
    REQUIRE(strlen(peer->address) < sizeof peer->address && strlen(peer->synapse_key) < sizeof peer->synapse_key);
    snprintf(text, sizeof text, "%s%s%s", peer->address, *peer->synapse_key ? "/" : "", peer->synapse_key);
    REQUIRE(peer_parse(text, &again, &error) == STATUS_OK);
    REQUIRE(strcmp(peer->address, again.address) == 0 && strcmp(peer->synapse_key, again.synapse_key) == 0);
    REQUIRE(address_parse(peer->address, host, &port, &error) == STATUS_OK);
    REQUIRE(port >= 1 && port <= 65535 && *host && !strpbrk(host, "[]/, \t\r\n"));
    REQUIRE(!*peer->synapse_key || key_check("key", peer->synapse_key, strlen(peer->synapse_key), &error) == STATUS_OK);
}

static void check_peer(const char *text)
{
    Error error;
    Peer peer;
    memset(&peer, 'x', sizeof peer);
    Status status = peer_parse(text, &peer, &error);
    if (status == STATUS_OK)
        require_stable(&peer);
    else
        require_sentence(status, &error);
}

static void check_listen(const char *text)
{
    Error error;
    char host[PEER_ADDRESS_SIZE];
    int port = -1;
    Status status = address_parse(text, host, &port, &error);
    if (status != STATUS_OK)
        require_sentence(status, &error);
    else
        REQUIRE(port >= 0 && port <= 65535 && *host && strlen(host) < sizeof host && !strpbrk(host, "[]/, \t\r\n"));
}

/* A list is accepted exactly if each of its entries is, and then has them all. */
static void check_list(const char *text)
{
    Error error;
    Peer *peers, peer;
    size_t count, entries = 0;
    Status status = peer_parse_list(text, &peers, &count, &error);
    bool good = true;
    for (const char *at = text; good && *text;) {
        size_t length = strcspn(at, ",");
        FuzzInput entry = {(const uint8_t *)at, length};
        good = peer_parse(fuzz_text(&entry), &peer, &error) == STATUS_OK;
        REQUIRE(!good || status != STATUS_OK ||
                (entries < count && strcmp(peers[entries].address, peer.address) == 0 &&
                 strcmp(peers[entries].synapse_key, peer.synapse_key) == 0));
        entries++;
        if (!at[length]) break;
        at += length + 1;
    }
    REQUIRE((status == STATUS_OK) == good);
    REQUIRE(status == STATUS_OK ? count == entries : !peers && count == 0);
    free(peers);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    FuzzInput input = {bytes, size};
    char *text = fuzz_text(&input);
    check_peer(text);
    check_listen(text);
    check_list(text);
    fuzz_rooms_clear();
    return 0;
}

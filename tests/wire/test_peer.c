#include <stdlib.h>
#include <string.h>

#include "support/suite.h"
#include "wire/modality.h"
#include "wire/peer.h"

static void expect(const char *text, const char *address, const char *key)
{
    Peer peer;
    Error error = {0};
    ck_assert_msg(peer_parse(text, &peer, &error) == STATUS_OK, "%s", error.message);
    ck_assert_str_eq(peer.address, address);
    ck_assert_str_eq(peer.synapse_key, key);
}

static void expect_refused(const char *text, const char *part)
{
    Peer peer;
    Error error = {0};
    ck_assert_msg(peer_parse(text, &peer, &error) == STATUS_INVALID_ARGUMENT, "'%s' was taken", text);
    ck_assert_msg(strstr(error.message, part) != NULL, "'%s' lacks '%s'", error.message, part);
}

START_TEST(peers_of_every_form_are_read)
{
    expect("127.0.0.1:8091", "127.0.0.1:8091", "");
    expect("neuron-1.example.org:1", "neuron-1.example.org:1", "");
    expect("localhost:65535/0xabc", "localhost:65535", "0xabc");
    expect("[::1]:8091", "[::1]:8091", "");
    expect("[2001:db8::7]:8091/my key/with slash", "[2001:db8::7]:8091", "my key/with slash");
    expect("h:08091", "h:8091", "");
}
END_TEST

START_TEST(wrong_peers_are_refused)
{
    expect_refused("", "no port");
    expect_refused("localhost", "no port");
    expect_refused(":8091", "no host");
    expect_refused("localhost:", "port ''");
    expect_refused("localhost:0", "from 1 to 65535");
    expect_refused("localhost:65536", "65536");
    expect_refused("localhost:99999999999999999999", "port");
    expect_refused("localhost:80x", "80x");
    expect_refused("localhost:-1", "-1");
    expect_refused("localhost: 80", "port");
    expect_refused("::1:8091", "colons");
    expect_refused("[::1]", "[IPv6]:PORT");
    expect_refused("[::1:8091", "[IPv6]:PORT");
    expect_refused("[::zz]:8091", "not an IPv6 address");
    expect_refused("[]:8091", "no host");
    expect_refused("a b:8091", "' '");
    expect_refused("http://h:80", "port");
    expect_refused("h:80/", "0 bytes");
    expect_refused("h:80/\x1b[2J", "0x1b");
    expect_refused("h:80/\xff", "UTF-8");
}
END_TEST

START_TEST(over_long_parts_are_refused)
{
    char text[1200] = "";
    memset(text, 'h', 254);
    strcpy(text + 254, ":80");
    expect_refused(text, "254");
    memset(text, 'h', 1000);
    text[1000] = '\0';
    expect_refused(text, "1000");
    strcpy(text, "h:80/");
    memset(text + 5, 'k', 257);
    text[5 + 257] = '\0';
    expect_refused(text, "257 bytes");
    text[5 + 256] = '\0';
    Peer peer;
    ck_assert_int_eq(peer_parse(text, &peer, NULL), STATUS_OK);
    ck_assert_uint_eq(strlen(peer.synapse_key), 256);
}
END_TEST

START_TEST(lists_are_read_and_the_wrong_entry_named)
{
    Peer *peers;
    size_t count;
    Error error;
    ck_assert_int_eq(peer_parse_list("a:1,[::1]:2/k,c:3", &peers, &count, NULL), STATUS_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert_str_eq(peers[0].address, "a:1");
    ck_assert_str_eq(peers[1].address, "[::1]:2");
    ck_assert_str_eq(peers[1].synapse_key, "k");
    ck_assert_str_eq(peers[2].address, "c:3");
    free(peers);
    ck_assert_int_eq(peer_parse_list("", &peers, &count, NULL), STATUS_OK);
    ck_assert_uint_eq(count, 0);
    ck_assert_ptr_null(peers);
    ck_assert_int_eq(peer_parse_list(NULL, &peers, &count, NULL), STATUS_OK);
    ck_assert_int_eq(peer_parse_list("a:1,,c:3", &peers, &count, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "peer 2 of 3"));
    ck_assert_int_eq(peer_parse_list("a:1,", &peers, &count, &error), STATUS_INVALID_ARGUMENT);
}
END_TEST

START_TEST(listening_addresses_may_have_port_0)
{
    char host[PEER_ADDRESS_SIZE];
    int port = -1;
    ck_assert_int_eq(address_parse("[::]:0", host, &port, NULL), STATUS_OK);
    ck_assert_str_eq(host, "::");
    ck_assert_int_eq(port, 0);
    ck_assert_int_eq(address_parse("0.0.0.0:8091", host, &port, NULL), STATUS_OK);
    ck_assert_int_eq(port, 8091);
    ck_assert_int_eq(address_parse("8091", host, &port, NULL), STATUS_INVALID_ARGUMENT);
}
END_TEST

START_TEST(keys_are_utf8_without_controls)
{
    const char *good[] = {"k", "0xab", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\xa7\xa0", "\xc2\xa0"};
    const char *bad[] = {"\xc3",         "\xe2\x82",         "\xed\xa0\x80", "\xf4\x90\x80\x80",
                         "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xc2\x9b",     "a\x7f"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_int_eq(key_check("key", good[i], strlen(good[i]), NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(key_check("key", bad[i], strlen(bad[i]), NULL), STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(key_check("key", "a\0b", 3, NULL), STATUS_INVALID_ARGUMENT);
}
END_TEST

START_TEST(modalities_have_names_and_ranks)
{
    Modality modality;
    for (int i = 0; i < 3; i++) {
        ck_assert(modality_from_name(modality_name((Modality)i), &modality));
        ck_assert_int_eq(modality, i);
    }
    ck_assert(!modality_from_name("sound", &modality));
    ck_assert_int_eq(modality_rank(MODALITY_IMAGE), 5);
    ck_assert_int_eq(modality_rank((Modality)7), 0);
    ck_assert_str_eq(modality_name((Modality)7), "?");
}
END_TEST

SUITE_MAIN("peer", peers_of_every_form_are_read, wrong_peers_are_refused, over_long_parts_are_refused,
           lists_are_read_and_the_wrong_entry_named, listening_addresses_may_have_port_0,
           keys_are_utf8_without_controls, modalities_have_names_and_ranks)

#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "support/folder.h"
#include "support/suite.h"
#include "wire/identity.h"

/* A folder with room for one key file. */
typedef struct Place {
    Folder folder;
    char path[FOLDER_PATH_SIZE];
} Place;

static Place place_make(void)
{
    Place place = {.folder = folder_make()};
    folder_path(&place.folder, "key", place.path);
    return place;
}

static void place_write(const Place *place, const char *text, mode_t mode)
{
    folder_write(&place->folder, "key", text, strlen(text));
    chmod(place->path, mode);
}

START_TEST(the_public_key_is_that_of_rfc_8032)
{
    /* RFC 8032, section 7.1, test 1 */
    static const char secret[] = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    uint8_t seed[32];
    Identity identity;
    sodium_hex2bin(seed, sizeof seed, secret, 64, NULL, NULL, NULL);
    ck_assert_int_eq(identity_from_seed(seed, &identity, NULL), STATUS_OK);
    ck_assert_str_eq(identity.text, "0xd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
}
END_TEST

START_TEST(new_keys_differ)
{
    Identity a, b;
    ck_assert_int_eq(identity_create(&a, NULL), STATUS_OK);
    ck_assert_int_eq(identity_create(&b, NULL), STATUS_OK);
    ck_assert_str_ne(a.text, b.text);
    ck_assert_uint_eq(strlen(a.text), 66);
}
END_TEST

START_TEST(a_saved_key_is_loaded_and_only_its_owner_may_read_it)
{
    Place place = place_make();
    Identity saved, loaded;
    struct stat about;
    ck_assert_int_eq(identity_create(&saved, NULL), STATUS_OK);
    ck_assert_int_eq(identity_save(&saved, place.path, NULL), STATUS_OK);
    ck_assert_int_eq(stat(place.path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, 0600);
    ck_assert_int_eq(identity_load(place.path, &loaded, NULL), STATUS_OK);
    ck_assert_str_eq(loaded.text, saved.text);
    ck_assert_mem_eq(loaded.secret_key, saved.secret_key, sizeof saved.secret_key);
    folder_remove(&place.folder);
}
END_TEST

START_TEST(an_existing_key_is_never_replaced)
{
    Place place = place_make();
    Identity first, second, loaded;
    Error error;
    ck_assert_int_eq(identity_create(&first, NULL), STATUS_OK);
    ck_assert_int_eq(identity_create(&second, NULL), STATUS_OK);
    ck_assert_int_eq(identity_save(&first, place.path, NULL), STATUS_OK);
    ck_assert_int_eq(identity_save(&second, place.path, &error), STATUS_ALREADY_EXISTS);
    ck_assert_int_eq(identity_load(place.path, &loaded, NULL), STATUS_OK);
    ck_assert_str_eq(loaded.text, first.text);
    ck_assert_uint_eq(folder_count(&place.folder), 1); /* no temporary file was left */
    folder_remove(&place.folder);
}
END_TEST

START_TEST(damaged_key_files_are_refused)
{
    Place place = place_make();
    static const char *const damaged[] = {
        "",
        "\n",
        "9d61b19d\n",
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f6\n",
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f6000\n",
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7fzz\n",
    };
    Identity identity;
    Error error;
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        place_write(&place, damaged[i], 0600);
        ck_assert_int_eq(identity_load(place.path, &identity, &error), STATUS_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(error.message, place.path));
    }
    folder_remove(&place.folder);
}
END_TEST

START_TEST(a_key_that_others_can_read_is_refused)
{
    Place place = place_make();
    Identity identity;
    Error error;
    place_write(&place, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n", 0644);
    ck_assert_int_eq(identity_load(place.path, &identity, &error), STATUS_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "chmod 600"));
    folder_remove(&place.folder);
}
END_TEST

START_TEST(a_missing_key_file_is_not_found)
{
    Place place = place_make();
    Identity identity;
    ck_assert_int_eq(identity_load(place.path, &identity, NULL), STATUS_NOT_FOUND);
    folder_remove(&place.folder);
}
END_TEST

START_TEST(synapse_keys_depend_on_neuron_and_soma)
{
    Identity a, b;
    char one[KEY_TEXT_SIZE], other[KEY_TEXT_SIZE];
    ck_assert_int_eq(identity_create(&a, NULL), STATUS_OK);
    ck_assert_int_eq(identity_create(&b, NULL), STATUS_OK);
    ck_assert_int_eq(identity_synapse_key(&a, "mnist", one, NULL), STATUS_OK);
    ck_assert_int_eq(identity_synapse_key(&a, "mnist", other, NULL), STATUS_OK);
    ck_assert_str_eq(one, other);
    ck_assert_uint_eq(strspn(one + 2, "0123456789abcdef"), 64);
    identity_synapse_key(&a, "bert", other, NULL);
    ck_assert_str_ne(one, other);
    identity_synapse_key(&b, "mnist", other, NULL);
    ck_assert_str_ne(one, other);
    ck_assert_str_ne(one, a.text);
}
END_TEST

SUITE_MAIN("identity", the_public_key_is_that_of_rfc_8032, new_keys_differ,
           a_saved_key_is_loaded_and_only_its_owner_may_read_it, an_existing_key_is_never_replaced,
           damaged_key_files_are_refused, a_key_that_others_can_read_is_refused, a_missing_key_file_is_not_found,
           synapse_keys_depend_on_neuron_and_soma)

/* The table of cases itself. */
#include <string.h>

#include "ops/cases.h"
#include "support/suite.h"

START_TEST(every_operation_has_a_case)
{
    for (int kind = 0; kind < OPERATION_COUNT; kind++) {
        bool found = false;
        for (int i = 0; i < case_count(); i++)
            found = found || case_at(i)->operation == (OperationKind)kind;
        ck_assert_msg(found, "%s has no case", operation_of((OperationKind)kind)->name);
    }
}
END_TEST

START_TEST(every_operation_with_a_gradient_has_a_case_for_it)
{
    for (int kind = 0; kind < OPERATION_COUNT; kind++) {
        bool found = operation_of((OperationKind)kind)->gradient == NULL;
        for (int i = 0; i < case_count(); i++)
            found = found || (case_at(i)->operation == (OperationKind)kind && case_is_differentiable(case_at(i)));
        ck_assert_msg(found, "the gradient of %s has no case", operation_of((OperationKind)kind)->name);
    }
}
END_TEST

START_TEST(every_case_is_a_valid_graph_with_a_name_of_its_own)
{
    char label[CASE_LABEL_SIZE];
    for (int i = 0; i < case_count(); i++) {
        case_label(case_at(i), label);
        ck_assert_msg(case_find(label) == case_at(i), "two cases are called %s", label);
        Error error = {0};
        CaseGraph built = case_graph(case_at(i), DTYPE_F32);
        ck_assert_msg(graph_check(built.graph, &error) == STATUS_OK, "%s: %s", label, error.message);
        graph_destroy(built.graph);
    }
}
END_TEST

SUITE_MAIN("cases", every_operation_has_a_case, every_operation_with_a_gradient_has_a_case_for_it,
           every_case_is_a_valid_graph_with_a_name_of_its_own)

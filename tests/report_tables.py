"""Integer confusion matrices that round to the figures printed in the report.

They are made up to fit the printed figures, not the original runs' counts: any matrix that
rounds to the same figures will do. The expected texts are typed from the report.
"""

QWEN_CLASSES = ("Positive", "Mild", "Negative", "Irrelevant")
BERT_CLASSES = ("0", "1", "2", "3")

# One entry a table. matrix: rows are the true class, columns the predicted one, valid
# predictions only. valid_share is None where the report prints no such line (BERT).
# table: scikit-learn's classification_report(..., digits=2) layout.
REPORT_TABLES = (
    {
        "name": "Qwen2.5-3B before fine-tuning",
        "total_samples": 14849,
        "valid_predictions": 6285,
        "valid_share": "42.33%",
        "accuracy": "0.3753",
        "classes": QWEN_CLASSES,
        "matrix": [
            [106, 413, 168, 201],
            [404, 1802, 307, 368],
            [91, 171, 180, 84],
            [474, 885, 360, 271],
        ],
        "table": """\
              precision    recall  f1-score   support

    Positive       0.10      0.12      0.11       888
        Mild       0.55      0.63      0.59      2881
    Negative       0.18      0.34      0.23       526
  Irrelevant       0.29      0.14      0.19      1990

    accuracy                           0.38      6285
   macro avg       0.28      0.31      0.28      6285
weighted avg       0.37      0.38      0.36      6285
""",
    },
    {
        "name": "Qwen2.5-3B after fine-tuning",
        "total_samples": 14849,
        "valid_predictions": 14849,
        "valid_share": "100.00%",
        "accuracy": "0.7210",
        "classes": QWEN_CLASSES,
        "matrix": [
            [1602, 169, 68, 105],
            [892, 4852, 250, 383],
            [326, 225, 622, 140],
            [803, 556, 226, 3630],
        ],
        "table": """\
              precision    recall  f1-score   support

    Positive       0.44      0.82      0.58      1944
        Mild       0.84      0.76      0.80      6377
    Negative       0.53      0.47      0.50      1313
  Irrelevant       0.85      0.70      0.77      5215

    accuracy                           0.72     14849
   macro avg       0.67      0.69      0.66     14849
weighted avg       0.76      0.72      0.73     14849
""",
    },
    {
        "name": "Qwen2.5-0.5B before fine-tuning",
        "total_samples": 14849,
        "valid_predictions": 11826,
        "valid_share": "79.64%",
        "accuracy": "0.1490",
        "classes": QWEN_CLASSES,
        "matrix": [
            [1131, 17, 395, 38],
            [2609, 92, 2157, 206],
            [578, 21, 374, 46],
            [2145, 79, 1773, 165],
        ],
        "table": """\
              precision    recall  f1-score   support

    Positive       0.17      0.72      0.28      1581
        Mild       0.44      0.02      0.03      5064
    Negative       0.08      0.37      0.13      1019
  Irrelevant       0.36      0.04      0.07      4162

    accuracy                           0.15     11826
   macro avg       0.26      0.29      0.13     11826
weighted avg       0.35      0.15      0.09     11826
""",
    },
    {
        "name": "Qwen2.5-0.5B after fine-tuning",
        "total_samples": 14849,
        "valid_predictions": 14849,
        "valid_share": "100.00%",
        "accuracy": "0.6532",
        "classes": QWEN_CLASSES,
        "matrix": [
            [1486, 275, 78, 105],
            [861, 4788, 308, 420],
            [298, 379, 491, 145],
            [866, 1104, 310, 2935],
        ],
        "table": """\
              precision    recall  f1-score   support

    Positive       0.42      0.76      0.54      1944
        Mild       0.73      0.75      0.74      6377
    Negative       0.41      0.37      0.39      1313
  Irrelevant       0.81      0.56      0.67      5215

    accuracy                           0.65     14849
   macro avg       0.60      0.61      0.59     14849
weighted avg       0.69      0.65      0.66     14849
""",
    },
    {
        "name": "bert-base-chinese before fine-tuning",
        "total_samples": 14849,
        "valid_predictions": 14849,
        "valid_share": None,
        "accuracy": "0.7304",
        "classes": BERT_CLASSES,
        "matrix": [
            [1392, 145, 20, 387],
            [83, 4866, 72, 1356],
            [46, 279, 238, 750],
            [109, 662, 94, 4350],
        ],
        "table": """\
              precision    recall  f1-score   support

           0       0.85      0.72      0.78      1944
           1       0.82      0.76      0.79      6377
           2       0.56      0.18      0.27      1313
           3       0.64      0.83      0.72      5215

    accuracy                           0.73     14849
   macro avg       0.72      0.62      0.64     14849
weighted avg       0.74      0.73      0.72     14849
""",
    },
    {
        "name": "bert-base-chinese after fine-tuning",
        "total_samples": 14849,
        "valid_predictions": 14849,
        "valid_share": None,
        "accuracy": "0.8232",
        "classes": BERT_CLASSES,
        "matrix": [
            [1632, 90, 52, 170],
            [100, 5468, 189, 620],
            [62, 208, 653, 390],
            [120, 397, 228, 4470],
        ],
        "table": """\
              precision    recall  f1-score   support

           0       0.85      0.84      0.85      1944
           1       0.89      0.86      0.87      6377
           2       0.58      0.50      0.54      1313
           3       0.79      0.86      0.82      5215

    accuracy                           0.82     14849
   macro avg       0.78      0.76      0.77     14849
weighted avg       0.82      0.82      0.82     14849
""",
    },
)

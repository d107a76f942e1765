"""The catalogue of clips and data sets: immutable versions, search, lineage, retention."""

from data_curation.catalogue.catalogue import Catalogue, Difference, open_catalogue
from data_curation.catalogue.conditions import parse_conditions
from data_curation.catalogue.documents import Document, DocumentStore, SQLiteStore
from data_curation.catalogue.export import export_dataset
from data_curation.catalogue.mongo import MongoStore
from data_curation.catalogue.retention import Removal, plan_removals, remove
from data_curation.catalogue.similarity import similar_clips

__all__ = [
    "Catalogue",
    "Difference",
    "Document",
    "DocumentStore",
    "MongoStore",
    "Removal",
    "SQLiteStore",
    "export_dataset",
    "open_catalogue",
    "parse_conditions",
    "plan_removals",
    "remove",
    "similar_clips",
]
